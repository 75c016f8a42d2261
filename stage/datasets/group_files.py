"""Copies groups that a person confirmed from a draft of candidates to the groups file of the data folder."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from stage.core.durable import whole_file, write_whole
from stage.core.errors import DataError
from stage.datasets.groups import COLUMNS, read_groups
from stage.datasets.joining import joined
from stage.datasets.near_duplicates import Cluster
from stage.datasets.walking import spelled

ALL = "all"
WRITABLE = 0o222  # a folder with none of these bits is read-only, though root could write to it
NUMBER = "cluster"  # the draft's third column


def write_draft(found: Sequence[Cluster], groups: Mapping[str, str], path: Path) -> None:
    """Write the candidates as a groups file with the column `cluster`, numbered from 1; a line that is removed is not proposed.

    The group is the one that an image of the cluster has in `groups`, else the path of its first image.
    """
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([*COLUMNS, NUMBER])
    for number, one in enumerate(found, 1):
        group = next((groups[file] for file in one.files if file in groups), one.files[0])
        lines.writerows([file, group, number] for file in one.files)
    write_whole(text.getvalue(), path)


def read_draft(path: Path, accept: str) -> dict[str, str]:
    """The group of each image in the accepted clusters of a draft: `all`, or numbers such as `1,3`. Raises DataError."""
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        lines = list(zip(table["file"], table["group"], table[NUMBER], strict=True))
    except FileNotFoundError:
        raise DataError(
            f"Expected a draft of groups at {path}, found none. Run `stage groups` without --accept, and look at its page."
        ) from None
    except (KeyError, ValueError, OSError) as error:
        raise DataError(f"Expected the columns file, group and {NUMBER} in {path}, found {error}. Run `stage groups` again.") from None
    wanted = {number for _, _, number in lines} if accept == ALL else {number.strip() for number in accept.split(",")}
    if unknown := wanted - {number for _, _, number in lines} or ({accept} if not wanted else set()):
        raise DataError(
            f"Expected numbers of clusters in {path} after --accept, such as `1,3`, or `{ALL}`, found {', '.join(sorted(unknown))}. Look at its page."
        )
    return {file: group for file, group, number in lines if number in wanted}


def accept_groups(chosen: Mapping[str, str], root: Path, path: str, images: Sequence[str]) -> int:
    """Add the chosen images to the groups file at `path` below `root`, which may not be there yet; returns how many lines it gained.

    If an image already has another group, the two groups are merged, and with them all that other chosen images connect. Other lines and
    columns stay. Raises DataError for an image that is not among `images`, and if the file cannot be written or read back as written.
    """
    if gone := {*chosen} - {*images}:
        raise DataError(
            f"Expected a draft of photographs that the last `dvc repro` has read, found {min(gone)!r}, which it has not. Run `stage groups` again."
        )
    file = spelled(root, path)
    if not file.parent.is_dir() or not file.parent.stat().st_mode & WRITABLE:
        raise DataError(f"Expected a folder that may be written for {file}, found none. Copy the draft's lines into a groups file by hand.")
    known = read_groups(root, path, images).of
    one = joined((group, known.get(image, group)) for image, group in chosen.items())
    new = {image: one[group] for image, group in chosen.items() if image not in known}
    table = _table(file)
    table["group"] = [one.get(group.strip(), group) for group in table["group"]]
    added = pd.DataFrame(list(new.items()), columns=list(COLUMNS))
    try:
        with whole_file(file, make_folder=False) as partial:
            pd.concat([table, added]).fillna("").to_csv(partial, index=False, lineterminator="\n")
            _check(read_groups(root, partial.relative_to(root).as_posix(), images).of, chosen, file)
    except OSError as error:
        raise DataError(f"Expected to write {file}, found: {error.strerror}. Copy the draft's lines there by hand.") from None
    return len(new)


def _table(file: Path) -> pd.DataFrame:
    if not file.exists():
        return pd.DataFrame({name: pd.Series(dtype=str) for name in COLUMNS})
    return pd.read_csv(file, dtype=str, keep_default_na=False, encoding="utf-8-sig").fillna("")


def _check(read: Mapping[str, str], chosen: Mapping[str, str], file: Path) -> None:
    if lost := [image for image in chosen if image not in read]:
        raise DataError(
            f"Expected a name that a groups file can hold, found {lost[0]!r}, which {file} would not read back. Rename the image."
        )
