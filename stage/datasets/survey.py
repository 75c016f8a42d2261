"""A look at a folder before it is used: which categories `prepare` can read, and what would be left out, by names alone."""

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from stage.core.errors import DataError
from stage.core.section import NAME, check_name, one_name
from stage.datasets.folder import Found, find
from stage.datasets.groups import category_groups
from stage.datasets.layouts import RULES, data_root, detect_layout
from stage.datasets.rules import GOOD
from stage.datasets.split import FEWEST
from stage.datasets.walking import shown

SHOWN = 5  # files that are named, of each category


class Survey(NamedTuple):
    """The layout, the categories that can be read, why others cannot, by name, and the files that will be set aside, as sentences."""

    layout: str
    categories: list[str]
    left_out: dict[str, str]
    set_aside: list[str]


def survey(root: Path) -> Survey:
    """What `prepare` would read in `root`. Raises DataError if that is no category at all; the message says why for each folder."""
    if shown(str(root.resolve())) != str(root.resolve()):
        raise DataError(f"Expected a folder whose path is valid UTF-8, found {shown(str(root.resolve()))}. Rename it.")
    layout, names = detect_layout(root)
    found = {name: _files(root, layout, name) for name in names}
    left_out = {name: reason for name, files in found.items() if (reason := files if isinstance(files, str) else _lack(files))}
    for name in names:
        if alike := [other for other in names if other < name and other not in left_out and one_name(other) == one_name(name)]:
            left_out.setdefault(name, f"one file name with {alike[0]}, on disks that ignore case at least: rename the folder")
    categories = [name for name in names if name not in left_out]
    if not categories:
        told = "".join(f"\n  {shown(name)}: {reason}" for name, reason in left_out.items())
        raise DataError(
            f"Expected a category that can be read in {root}, found none (layout {layout}):{told}\nCorrect that, or describe the names in prepare.folder (docs/data.md)."
        )
    others = {path.name: "not a category's folder" for path in _others(root, names)}
    aside = [sentence for name in categories for sentence in _set_aside(name, found[name])]
    return Survey(layout, categories, {shown(name): reason for name, reason in (left_out | others).items()}, aside)


def _files(root: Path, layout: str, name: str) -> list[Found] | str:
    """The files of a category, or why it cannot be one."""
    if not re.fullmatch(NAME, name) or shown(name) != name:
        return "its name has other characters than letters, digits, `_`, `-`, `.` and blanks: rename the folder"
    home, rule = data_root(root, layout, name), RULES[layout]
    try:
        check_name(name)
    except ValueError as error:
        return f"{error}: rename the folder"
    try:
        found = find(home, name, rule)
        category_groups(home, name, rule, found)
        return found
    except DataError as error:
        return f"a link that leaves {root}: copy the folder itself there" if (root / name).is_symlink() else str(error)


def _lack(files: list[Found]) -> str:
    usable = Counter(each.defect for each in files if not each.reason and (each.defect != GOOD or each.source_split == "train"))
    if not usable[GOOD]:
        return f"no normal training image is usable{_most_frequent(files)}"
    if max((count for defect, count in usable.items() if defect != GOOD), default=0) < FEWEST:
        return f"no defect type has {FEWEST} images with masks{_most_frequent(files)}"
    return ""


def _most_frequent(files: list[Found]) -> str:
    reasons = Counter(each.reason for each in files if each.reason and each.image).most_common(1)
    return f" ({reasons[0][1]} x {reasons[0][0]})" if reasons else ""


def _others(root: Path, names: list[str]) -> list[Path]:
    is_category = names == [root.resolve().name]
    return (
        [] if is_category else sorted(path for path in root.iterdir() if path.is_dir() and path.name not in names and path.name[0] != ".")
    )


def _set_aside(category: str, files: list[Found] | str) -> list[str]:
    aside = [each for each in files if isinstance(each, Found) and each.reason]
    more = [f"{category}: {len(aside) - SHOWN} more files will be set aside."] if len(aside) > SHOWN else []
    return [f"{each.path} will be set aside: {each.reason}{f' ({each.detail})' * bool(each.detail)}." for each in aside[:SHOWN]] + more
