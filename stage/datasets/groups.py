"""The groups file: which images show the same physical part, so that they stay on one side of the split."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from stage.core.errors import DataError

COLUMNS = ("file", "group")


def read_groups(root: Path, path: str, images: Sequence[str]) -> dict[str, str]:
    """The groups of those `images` (paths relative to `root`) that the file at `path` lists; empty if there is no such file.

    The column `file` holds paths relative to the root or to the file's own folder, or bare file names. Raises DataError.
    """
    file = root / path
    if not path or not file.exists():
        return {}
    if not file.resolve().is_relative_to(root.resolve()):
        raise DataError(f"Expected the groups file {file} inside {root}, found a link that leaves it. Copy the file itself there.")
    listed = _listed(file)
    folder = PurePosixPath(path).parent.as_posix()
    groups = {image: listed[key] for image in images if (key := _key(image, folder, listed))}
    _check_names(file, images, listed)
    if not groups:
        raise DataError(
            f"Expected images of this data set in the column file of {file}, found {list(listed)[:3]}, which name none. Correct the paths."
        )
    return groups


def _listed(file: Path) -> dict[str, str]:
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except (ValueError, OSError) as error:
        raise DataError(f"Expected a comma-separated table at {file}, found one that cannot be read: {error}") from None
    missing = [column for column in COLUMNS if column not in table.columns]
    if missing:
        raise DataError(
            f"Expected the columns file and group in {file}, found {list(table.columns)}. Correct the first line; the separator is a comma."
        )
    table["file"] = table["file"].str.replace("\\", "/").str.removeprefix("./")
    rows = sorted({(str(name), str(group)) for name, group in zip(table["file"], table["group"], strict=True)})
    twice = next((name for name, count in Counter(name for name, _ in rows).items() if count > 1), "")
    if twice:
        raise DataError(f"Expected one group for each file in {file}, found two for {twice!r}. Keep one line.")
    return {name: group for name, group in rows if group}


def _key(image: str, folder: str, listed: dict[str, str]) -> str:
    beside = image.removeprefix(f"{folder}/")
    return next((key for key in (image, beside, PurePosixPath(image).name) if key in listed), "")


def _check_names(file: Path, images: Sequence[str], listed: dict[str, str]) -> None:
    names = Counter(PurePosixPath(image).name for image in images if image not in listed)
    twice = next((name for name, count in names.items() if count > 1 and name in listed), "")
    if twice:
        raise DataError(f"Expected {twice!r} in {file} to name one image, found several of that name. Write their paths instead.")
