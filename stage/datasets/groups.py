"""The groups file: which images show the same physical part, so that they stay on one side of the split.

Names are compared in Unicode's form NFC, since a Mac composes accents otherwise than the table's author.
"""

import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import pandas as pd

from stage.core.errors import DataError

COLUMNS = ("file", "group")
SHOWN = 3  # names in a message


class Groups(NamedTuple):
    """The group of each listed image, by its path; and the names in the table that no file has."""

    of: dict[str, str]
    unmatched: list[str]


def read_groups(root: Path, path: str, images: Sequence[str]) -> Groups:
    """The groups of those `images` (paths relative to `root`) that the file at `path` lists; none if there is no such file.

    The column `file` holds paths relative to the root or to the file's own folder, or bare file names. Raises DataError, also for a
    name that only case, blanks or the extension part from an image's: that is a slip, and the image would not be grouped.
    """
    file = root / path
    if not path or not file.exists():
        return Groups({}, [])
    if not file.is_file():
        raise DataError(f"Expected a table at {file}, found something that is no file. Move it away.")
    if not file.resolve().is_relative_to(root.resolve()):
        raise DataError(f"Expected the groups file {file} inside {root}, found a link that leaves it. Copy the file itself there.")
    listed = _listed(file)
    folder = _plain(PurePosixPath(path).parent.as_posix())
    keys = {image: key for image in images if (key := _key(_plain(image), folder, listed))}
    _check_names(file, [_plain(image) for image in images], listed)
    if not keys:
        raise DataError(
            f"Expected images of this data set in the column file of {file}, found {list(listed)[:SHOWN]}, which name none. Correct the paths."
        )
    unmatched = [name for name in sorted({*listed} - {*keys.values()}) if not (_is_file(root / name) or _is_file(file.parent / name))]
    _refuse_slips(file, unmatched, [image for image in images if image not in keys], folder)
    return Groups({image: listed[key] for image, key in keys.items()}, unmatched)


def _plain(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name longer than any file's
        return False


def _listed(file: Path) -> dict[str, str]:
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
    return {name: group for name, group in rows if group}


def _key(image: str, folder: str, listed: dict[str, str]) -> str:
    return next((key for key in _names(image, folder) if key in listed), "")


def _names(image: str, folder: str) -> tuple[str, str, str]:
    """What a table may call an image: its path from the root, its path from the table's folder, its bare name."""
    return image, image.removeprefix(f"{folder}/"), PurePosixPath(image).name


def _check_names(file: Path, images: Sequence[str], listed: dict[str, str]) -> None:
    names = Counter(PurePosixPath(image).name for image in images if image not in listed)
    twice = next((name for name, count in names.items() if count > 1 and name in listed), "")
    if twice:
        raise DataError(f"Expected {twice!r} in {file} to name one image, found several of that name. Write their paths instead.")


def _refuse_slips(file: Path, unmatched: list[str], images: list[str], folder: str) -> None:
    alike = {_rough(name): image for image in images for name in _names(_plain(image), folder)}
    slips = [f"{name!r} (meant: {alike[_rough(name)]}?)" for name in unmatched if _rough(name) in alike]
    if slips:
        told = ", ".join(slips[:SHOWN]) + f" and {len(slips) - SHOWN} more" * (len(slips) > SHOWN)
        raise DataError(f"Expected the name of an image on each line of {file}, found {told}, which names no image. Correct these lines.")


def _rough(name: str) -> str:
    *folders, last = (part.strip() for part in name.casefold().split("/"))
    return "/".join([*folders, last.rpartition(".")[0].strip() or last])
