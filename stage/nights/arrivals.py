"""Decides for every file in the drop folder: take it in, set it aside with a reason, or leave it for a later night. Changes nothing."""

import logging
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from stage.core.digests import digest_if_readable, file_digest
from stage.core.params import Params
from stage.datasets.entries import read_entry
from stage.datasets.folder import FoundFile, find
from stage.datasets.images import WHOLE_RANGE, GreyRange
from stage.datasets.layouts import rule_of
from stage.datasets.rules import Expressions, compile_rule
from stage.datasets.walking import is_folder, shown, walk

LOG = logging.getLogger(__name__)
SET_ASIDE = "set-aside"  # folder in the drop folder
HELD = ".taking"  # folder beside files that are being copied, where nobody replaces them
INCOMPLETE = (
    "has no mask: ",
    "a mask without an image",
    "a foreground without",
    "changed while it was ",
)  # beginnings of reasons that time may cure
MOVING = "still changing"
TAKEN = "a photograph of that name is there already, with other bytes: rename it"
FOREIGN = "not of a category of params.yaml, or not used by prepare.layout"


class Arrival(NamedTuple):
    """A photograph with its mask, or a file that belongs to no photograph; paths relative to the drop folder. An empty `reason` means usable.

    `waits`: it is left in place, because time may cure the reason. `digests`: of the files of a usable one, as they were judged.
    """

    files: tuple[str, ...]
    reason: str = ""
    detail: str = ""
    waits: bool = False
    digests: tuple[str, ...] = ()


class Drop(NamedTuple):
    """The drop folder, the folder that `prepare` reads, how it reads, and the time in s after which a file counts as arrived.

    `restored`: files that had arrived, which a killed night had renamed.
    """

    folder: Path
    source: Path
    params: Params
    settle_s: float
    restored: frozenset[str] = frozenset()

    def arrivals(self) -> list[Arrival]:
        """What lies in the drop folder, each file once. Decodes the files that no longer change."""
        names = self._names()
        found = [one for category in self.params.categories for one in self._of_category(category, names)]
        rest = sorted(names - {name for one in found for name in one.files})
        return [*found, *(Arrival((name,), MOVING, waits=True) if self._is_moving(name) else Arrival((name,), FOREIGN) for name in rest)]

    def _names(self) -> set[str]:
        paths = (path.relative_to(self.folder) for path in walk(self.folder)) if is_folder(self.folder) else ()
        return {path.as_posix() for path in paths if path.parts[0] != SET_ASIDE and path.parent.name != HELD}

    def _of_category(self, category: str, names: set[str]) -> Iterator[Arrival]:
        rule = rule_of(self.params.prepare, self.params.categories)
        ours = compile_rule(rule, category)
        if not any(ours.place(name) for name in names):
            return
        there = _occupied(self.source, ours)
        for one in find(self.folder, category, rule, with_foregrounds=self.params.prepare.foreground.strategy == "files"):
            files = tuple(name for name in dict.fromkeys((one.image, *one.masks, *one.foregrounds)) if name in names)
            if not files:
                continue
            LOG.info("look at %s", shown(files[0]))
            if any(map(self._is_moving, files)):
                yield Arrival(files, MOVING, waits=True)
                continue
            digests = tuple(digest_if_readable(self.folder / name) for name in files)  # before they are decoded: a later change shows
            new = [name for name in files if not is_same(self.folder / name, self.source / name)]
            if not new:
                yield Arrival(files, digests=digests)  # moved in by a night that was killed before it emptied the drop folder
            elif not one.reason and any(_key(name, ours) in there for name in new):
                yield Arrival(files, TAKEN)
            else:
                yield self._read(one, category, files)._replace(digests=digests)

    def _read(self, one: FoundFile, category: str, files: tuple[str, ...]) -> Arrival:
        prepare = self.params.prepare
        grey = WHOLE_RANGE if prepare.grey_range == "auto" else GreyRange(*prepare.grey_range, is_named=True)
        entry = read_entry(one, self.folder, prepare, category=category, group="", grey=grey)
        return Arrival(files, entry.reason, entry.detail, waits=entry.reason.startswith(INCOMPLETE))

    def _is_moving(self, name: str) -> bool:
        """Whether a file changed just now, by its times of change, of which the inode's cannot be set by a program."""
        try:
            facts = (self.folder / name).lstat()
        except OSError:  # removed, or renamed by whoever brings it
            return True
        # To rename a file changes its inode.
        changed = facts.st_mtime if name in self.restored else max(facts.st_ctime, facts.st_mtime)
        return time.time() - changed < self.settle_s


def _occupied(source: Path, ours: Expressions) -> set[str]:
    """The keys of a category's files in the source; extensions do not count, since the same name with another one would be a second photograph."""
    paths = (path.relative_to(source).as_posix() for path in walk(source)) if is_folder(source) else ()
    return {_key(path, ours) for path in paths if ours.place(path)}


def _key(path: str, ours: Expressions) -> str:
    place = ours.place(path)
    if place is None:
        return path
    home = place.defect if place.role in ("image", "mask", "bare_mask") else PurePosixPath(path).parent.as_posix()
    return f"{place.role.removeprefix('bare_')}:{home}:{place.name}"


def is_same(one: Path, other: Path) -> bool:
    """Whether both are files, with the same bytes."""
    return one.is_file() and other.is_file() and one.stat().st_size == other.stat().st_size and file_digest(one) == file_digest(other)


def row_of(arrival: Arrival) -> dict[str, str]:
    """An arrival as a row for people."""
    return {"file": ", ".join(map(shown, arrival.files)), "reason": arrival.reason, "detail": shown(arrival.detail)}
