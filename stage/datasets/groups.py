"""The groups file: which images show the same physical part, so that they stay on one side of the split.

Names are compared in Unicode's form NFC, since a Mac composes accents otherwise than the table's author.
"""

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
from stage.datasets.folder import Found
from stage.datasets.walking import shown

COLUMNS = ("file", "group")
SHOWN = 3  # names in a message


class Groups(NamedTuple):
    """The group of each listed image, by its path; and the names in the table that no file has."""

    of: dict[str, str]
    unmatched: list[str]


def category_groups(root: Path, category: str, rule: FolderRule, found: Sequence[Found]) -> Groups:
    """The groups of a category's images, from the file that its rule names. Raises DataError as `read_groups` does."""
    return read_groups(root, rule.groups.replace("{category}", category), [each.image for each in found if each.image])


def read_groups(root: Path, path: str, images: Sequence[str]) -> Groups:
    """The groups of those `images` (paths relative to `root`) that the file at `path` lists; none if there is no such file.

    The column `file` holds paths from the root or from the file's own folder, however they are spelled, or bare file names. Raises DataError, also for a
    name that only case, blanks or the extension part from an image's: that is a slip, and the image would not be grouped.
    """
    file = root / path
    if not path or not file.exists():
        return Groups({}, [])
    if not file.is_file():
        raise DataError(f"Expected a table at {file}, found something that is no file. Move it away.")
    if not file.resolve().is_relative_to(root.resolve()):
        raise DataError(f"Expected the groups file {file} inside {root}, found a link that leaves it. Copy the file itself there.")
    lines, find = _lines(file), _Finder(root, file, images)
    found = {name: find(name) for name in lines}
    groups: dict[str, str] = {}
    for name, image in found.items():
        if image and groups.setdefault(image, lines[name]) != lines[name]:
            raise DataError(
                f"Expected one group for each file in {file}, found two for {shown(image)!r}, one of them under {name!r}. Keep one line."
            )
    if not groups:
        raise DataError(
            f"Expected images of this data set in the column file of {file}, found {list(lines)[:SHOWN]}, which name none. Correct the paths."
        )
    unmatched = sorted(name for name, image in found.items() if image is None)
    find.refuse_slips(unmatched, [image for image in images if image not in groups])
    return Groups({image: group for image, group in groups.items() if group}, unmatched)


class _Finder:
    """Finds the image that a line of the table names."""

    def __init__(self, root: Path, file: Path, images: Sequence[str]) -> None:
        self.root, self.file, self.images = root, file, images
        self.folder = _plain(file.parent.relative_to(root).as_posix())
        named = [(self._from_folders(image), image) for image in images]
        # A path from the root goes before the same words from the table's folder.
        self.paths = {relative: image for (_, relative), image in named} | {whole: image for (whole, _), image in named}
        self.names: dict[str, list[str]] = {}
        for image in images:
            self.names.setdefault(PurePosixPath(_plain(image)).name, []).append(image)

    @cached_property
    def places(self) -> dict[tuple[int, int], str]:
        """The images by their place on the disk, which is asked for only where a line is spelled otherwise."""
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

    def refuse_slips(self, unmatched: Sequence[str], images: Sequence[str]) -> None:
        """Raise DataError if only case, blanks or the extension part a line that names nothing from an image of no group."""
        alike = {_rough(name): image for image in images for name in (*self._from_folders(image), PurePosixPath(_plain(image)).name)}
        slips = [f"{name!r} (meant: {shown(alike[_rough(name)])}?)" for name in unmatched if _rough(name) in alike]
        if slips:
            told = ", ".join(slips[:SHOWN]) + f" and {len(slips) - SHOWN} more" * (len(slips) > SHOWN)
            raise DataError(
                f"Expected the name of an image on each line of {self.file}, found {told}, which names no image. Correct these lines."
            )

    def _from_folders(self, image: str) -> tuple[str, str]:
        """An image's path from the root and from the table's folder."""
        return _plain(image), _plain(image).removeprefix(f"{self.folder}/")


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _place(path: Path) -> tuple[int, int] | None:
    """What tells a file from every other one on the disk; None if there is none."""
    try:
        status = path.stat()
    except (OSError, ValueError):  # a name longer than any file's, or with a character that none has
        return None
    return (status.st_dev, status.st_ino) if S_ISREG(status.st_mode) else None


def _lines(file: Path) -> dict[str, str]:
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig").fillna("")
    except (ValueError, OSError) as error:
        raise DataError(
            f"Expected a comma-separated table at {file}, found one that cannot be read: {error}. Save it as CSV in UTF-8."
        ) from None
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise DataError(
            f"Expected the columns file and group in {file}, found {list(table.columns)}. Correct the first line; the separator is a comma."
        )
    names = [_plain(str(name).replace("\\", "/").removeprefix("./")) for name in table["file"]]
    rows = sorted({(name, str(group).strip()) for name, group in zip(names, table["group"], strict=True)})
    twice = next((name for name, count in Counter(name for name, _ in rows).items() if count > 1), "")
    if twice:
        raise DataError(f"Expected one group for each file in {file}, found two for {twice!r}. Keep one line.")
    return dict(rows)


def _rough(name: str) -> str:
    *folders, last = (part.strip() for part in name.casefold().split("/"))
    return "/".join([*folders, last.rpartition(".")[0].strip() or last])
