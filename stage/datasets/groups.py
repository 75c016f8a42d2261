"""The groups file: which images show the same physical part, so that they stay on one side of the split.

Names are compared in Unicode's form NFC, since a Mac may compose accents differently from the table's author.
"""

import io
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from stat import S_ISREG
from typing import NamedTuple

import pandas as pd

from stage.core.data_params import FolderRule
from stage.core.errors import DataError
from stage.core.section import one_name
from stage.datasets.folder import FoundFile
from stage.datasets.walking import shown, spelled

COLUMNS = ("file", "group")
SHOWN = 3  # names in a message


class Groups(NamedTuple):
    """The group of each listed image, by path; the table's names that no file has; and inexact names with the image that they were read as."""

    of: dict[str, str]
    unmatched: list[str]
    slips: dict[str, str]


def category_groups(root: Path, category: str, rule: FolderRule, found: Sequence[FoundFile]) -> Groups:
    """The groups of a category's images, from the file that its rule names. Raises DataError as `read_groups` does."""
    return read_groups(root, rule.groups.replace("{category}", category), [each.image for each in found if each.image])


def read_groups(root: Path, path: str, images: Sequence[str]) -> Groups:
    """The groups of those `images` (paths relative to `root`) that the file at `path` lists; none if there is no such file.

    The column `file` holds paths from the root or from the file's own folder, however they are spelled, or bare file names.
    A name that differs from one image's only in case, blanks or the extension is a slip, and means that image. Raises DataError.
    """
    file = spelled(root, path)
    if not path or not _is_there(file):
        return Groups({}, [], {})
    if not file.resolve().is_relative_to(root.resolve()):
        raise DataError(f"Expected the groups file {file} inside {root}, found a link that leaves it. Copy the file itself there.")
    lines, find = _lines(file), _Finder(root, file, images)
    found = {name: find(name) for name in lines}
    named = {*found.values()}
    slips = find.slips([name for name, image in found.items() if image is None], [image for image in images if image not in named])
    found |= slips
    groups: dict[str, str] = {}
    for name, image in found.items():
        if image and groups.setdefault(image, lines[name]) != lines[name]:
            raise DataError(
                f"Expected one group for each file in {file}, found two for {shown(image)!r}, one of them under {name!r}. Keep one line."
            )
    if all(image is None for image in found.values()):
        raise DataError(
            f"Expected images of this data set in the column file of {file}, found {list(lines)[:SHOWN]}, which name none. Correct the paths."
        )
    unmatched = sorted(name for name, image in found.items() if image is None)
    return Groups({image: group for image, group in groups.items() if group}, unmatched, slips)


def _is_there(file: Path) -> bool:
    """Whether there is a groups file. Raises DataError for a misspelled name or a broken link, since all images would silently be ungrouped."""
    try:
        if not S_ISREG(file.stat().st_mode):
            raise DataError(f"Expected a table at {file}, found something that is no file. Move it away.")
        return True
    except (FileNotFoundError, NotADirectoryError):
        if slip := next((other for other in sorted(file.parent.glob("*")) if _may_be_meant(other.name, file.name)), None):
            what = (
                "a link to nothing. Copy the file itself there."
                if slip == file
                else f"{shown(slip.name)!r} there. Rename it, or move it away."
            )
            raise DataError(f"Expected the groups file at {file}, found {what}") from None
        return False
    except OSError as error:
        raise DataError(f"Expected a table at {file}, found: {error.strerror}. Correct its permissions, or move it away.") from None


def _may_be_meant(other: str, name: str) -> bool:
    """Whether a file's name differs from the groups file's only in case, blanks, or an extension that Windows hides."""
    return one_name(other.strip()) in [one_name(name) + hidden for hidden in ("", ".csv", ".txt")]


class _Finder:
    """Finds the image that a line of the table names."""

    def __init__(self, root: Path, file: Path, images: Sequence[str]) -> None:
        self.root, self.file, self.images = root, file, images
        self.folder = _plain(file.parent.relative_to(root).as_posix())
        named = [(self._from_folders(image), image) for image in images]
        # A path from the root takes precedence over the same text as a path from the table's folder.
        self.paths = {relative: image for (_, relative), image in named} | {whole: image for (whole, _), image in named}
        self.names: dict[str, list[str]] = {}
        for image in images:
            self.names.setdefault(PurePosixPath(_plain(image)).name, []).append(image)

    @cached_property
    def places(self) -> dict[tuple[int, int], str]:
        """The images by their place on the disk, read only if some line spells a path differently."""
        return {place: image for image in self.images if (place := _place(self.root / image))}

    def __call__(self, name: str) -> str | None:
        """The image's path; "" if the line names another file, None if it names none. Raises DataError if it names several."""
        if image := self.paths.get(name):
            return image
        if len(alike := self.names.get(name, [])) > 1:
            raise DataError(f"Expected {name!r} in {self.file} to name one image, found several of that name. Write their paths instead.")
        if alike:
            return alike[0]
        # A path may be written in many ways (`a//b`, `a/../b`, from `/`, through a link): the disk knows them all.
        there = _place(self.root / name) or _place(self.file.parent / name)
        return self.places.get(there, "") if there else None

    def slips(self, unmatched: Sequence[str], images: Sequence[str]) -> dict[str, str]:
        """The image of each name that differs from it only in case, blanks or the extension. Raises DataError if a name may mean several."""
        alike: dict[str, set[str]] = {}
        for image in images:
            for name in (*self._from_folders(image), PurePosixPath(_plain(image)).name):
                alike.setdefault(_rough(name), set()).add(image)
        meant = {name: sorted(alike[_rough(name)]) for name in unmatched if _rough(name) in alike}
        if unclear := next((name for name, of in meant.items() if len(of) > 1), None):
            told = " or ".join(map(shown, meant[unclear][:SHOWN]))
            raise DataError(
                f"Expected the name of an image on each line of {self.file}, found {unclear!r}, which names no image (meant: {told}?). "
                "Correct this line."
            )
        return {name: of[0] for name, of in meant.items()}

    def _from_folders(self, image: str) -> tuple[str, str]:
        """An image's path from the root and from the table's folder."""
        return _plain(image), _plain(image).removeprefix(f"{self.folder}/")


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _place(path: Path) -> tuple[int, int] | None:
    """What identifies a file on the disk; None if there is no file."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # a name longer than any file's, or with a character that none has
        return None
    return (status.st_dev, status.st_ino) if S_ISREG(status.st_mode) else None


def _lines(file: Path) -> dict[str, str]:
    head, *lines = _cells(file)
    if any(head.count(column) != 1 for column in COLUMNS):
        raise DataError(
            f"Expected the columns file and group in {file}, each once, found {head}. Correct the first line; the separator is a comma."
        )
    names, groups = ([line[head.index(column)] for line in lines] for column in COLUMNS)
    names = [_plain(name.replace("\\", "/").removeprefix("./")) for name in names]
    rows = sorted({(name, group.strip()) for name, group in zip(names, groups, strict=True)})
    twice = next((name for name, count in Counter(name for name, _ in rows).items() if count > 1), "")
    if twice:
        raise DataError(f"Expected one group for each file in {file}, found two for {twice!r}. Keep one line.")
    return dict(rows)


def _cells(file: Path) -> list[list[str]]:
    """The lines of a table, the first one included. Raises DataError where a line has more cells than the first."""
    try:
        text = file.read_text(encoding="utf-8-sig")
        if "\0" in text:
            raise ValueError("NUL characters, as of UTF-16")
        table = pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False, header=None).fillna("")
    except (ValueError, OSError) as error:
        raise DataError(
            f"Expected a comma-separated table at {file}, found one that cannot be read: {' '.join(str(error).split())}. Save it as CSV in UTF-8."
        ) from None
    return [[str(cell) for cell in line] for line in table.to_numpy()]


def _rough(name: str) -> str:
    *folders, last = (part.strip() for part in name.casefold().split("/"))
    return "/".join([*folders, last.rpartition(".")[0].strip() or last])
