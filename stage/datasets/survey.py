"""A look at a folder before it is used: which categories `prepare` can read and what it would leave out, judged by file names only."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from pydantic import TypeAdapter, ValidationError

from stage.core.data_params import FolderRule
from stage.core.errors import DataError
from stage.core.section import Name, one_name
from stage.core.wording import counted, first_of
from stage.datasets.folder import FoundFile, find
from stage.datasets.groups import category_groups
from stage.datasets.layouts import RULES, check_root, data_root, detect_layout, why_no_category
from stage.datasets.rules import GOOD, categories_in, check_rule
from stage.datasets.split import FEWEST
from stage.datasets.walking import is_folder, leads_nowhere, shown, walk

NAMES: TypeAdapter[str] = TypeAdapter(Name)
SHOWN = 3  # files that are named, of each category and reason


class Survey(NamedTuple):
    """The layout, the categories that can be read, why others cannot, by name; sentences on groups files, and on files that will be set aside."""

    layout: str
    categories: list[str]
    left_out: dict[str, str]
    grouped: list[str]
    set_aside: list[str]


def survey(root: Path, rule: FolderRule | None = None, named: Sequence[str] = ()) -> Survey:
    """What `prepare` would read in `root`. Raises DataError if there is no such category; the message says why for each folder.

    With a naming `rule` the layout is `folder`, and the rule says which categories there are. A rule without {category} describes a single
    category, named by the one name in `named` or else after the folder.
    """
    if shown(str(root.resolve())) != str(root.resolve()):
        raise DataError(f"Expected a folder whose path is valid UTF-8, found {shown(str(root.resolve()))}. Rename it.")
    layout, names = detect_layout(root) if rule is None else ("folder", _by_rule(root, rule, named))
    found = {name: _files(root, layout, rule or RULES[layout], name) for name in names}
    left_out = {name: reason for name, files in found.items() if (reason := files if isinstance(files, str) else _lack(files))}
    for name in names:
        if alike := [other for other in names if other < name and other not in left_out and one_name(other) == one_name(name)]:
            left_out.setdefault(name, f"one file name with {alike[0]} on disks that ignore case: rename the folder")
    categories = [name for name in names if name not in left_out]
    if not categories:
        told = "".join(f"\n  {_printable(name)}: {reason}" for name, reason in left_out.items())
        described = f" Correct prepare.folder.normal, now {rule.normal!r}, or prepare.layout." if rule and not names else ""
        raise DataError(
            f"Expected a category that can be read in {root}, found none (layout {layout}):{told}\nCorrect that, or describe the names in prepare.folder (docs/data.md).{described}"
        )
    is_by_folder = rule is None or rule.normal.startswith("{category}/")
    others = {path.name: why_no_category(path) for path in _others(root, names)} if is_by_folder else {}
    aside = [sentence for name in categories for sentence in _set_aside(name, found[name])]
    grouped = [told for name in categories if (told := _grouped(root, layout, rule or RULES[layout], name, found[name]))]
    return Survey(layout, categories, {_printable(name): reason for name, reason in (left_out | others).items()}, grouped, aside)


def _by_rule(root: Path, rule: FolderRule, named: Sequence[str]) -> list[str]:
    check_root(root)
    if "{category}" in rule.normal:
        names = categories_in(rule, (shown(path.relative_to(root).as_posix()) for path in walk(root)))
    else:
        names = [named[0] if len(named) == 1 else root.resolve().name]
    check_rule(rule, names)
    return names


def _files(root: Path, layout: str, rule: FolderRule, name: str) -> list[FoundFile] | str:
    """The files of a category, or why it cannot be one."""
    if trouble := _trouble_of_name(name):
        return f"{trouble}: rename the folder"
    home = data_root(root, layout, name)
    try:
        found = find(home, name, rule)
        category_groups(home, name, rule, found)
        return found
    except DataError as error:
        return f"a link that leaves {root}: copy the folder itself there" if (root / name).is_symlink() else str(error)


def _grouped(root: Path, layout: str, rule: FolderRule, name: str, files: list[FoundFile] | str) -> str:
    """A sentence on the groups file of a category that can be read; empty if it has none."""
    home = data_root(root, layout, name)
    groups = category_groups(home, name, rule, files).of if isinstance(files, list) else {}
    file = home / rule.groups.replace("{category}", name)
    parts = counted(len({*groups.values()}), "group")
    return (
        f"{name}: {_printable(str(file))} puts {counted(len(groups), 'image')} into {parts}, which the split keeps whole." if groups else ""
    )


def _trouble_of_name(name: str) -> str:
    """What keeps a folder's name from being a category in params.yaml."""
    try:
        NAMES.validate_python(name)
    except ValidationError as error:
        told = error.errors()[0]
        if told["type"] == "value_error":
            return told["msg"].removeprefix("Value error, ")
        return "its name has other characters than letters, digits, `_`, `-`, `.` and blanks, or begins with one of the last three"
    return ""


def _lack(files: list[FoundFile]) -> str:
    usable = Counter(each.defect for each in files if not each.reason and (each.defect != GOOD or each.source_split == "train"))
    if not usable[GOOD]:
        return f"no normal training image is usable{_most_frequent(files)}"
    if max((count for defect, count in usable.items() if defect != GOOD), default=0) < FEWEST:
        return f"no defect type has {FEWEST} images with masks{_most_frequent(files)}"
    return ""


def _most_frequent(files: list[FoundFile]) -> str:
    reasons = Counter(each.reason for each in files if each.reason and each.image).most_common(SHOWN)
    return f" ({'; '.join(f'{count} x {reason}' for reason, count in reasons)})" if reasons else ""


def _others(root: Path, names: list[str]) -> list[Path]:
    """Other folders, and broken links that may have led to some."""
    if names == [root.resolve().name]:
        return []
    others = (path for path in root.iterdir() if path.name not in names and not path.name.startswith("."))
    return sorted(path for path in others if is_folder(path) or leads_nowhere(path))


def _set_aside(category: str, files: list[FoundFile] | str) -> list[str]:
    """A sentence per reason, the most frequent first: a Mac's thousand `._` files must not hide one broken link."""
    aside: dict[str, list[str]] = {}
    for each in files:
        if isinstance(each, FoundFile) and each.reason:
            aside.setdefault(each.reason, []).append(each.path + f": {each.detail}" * bool(each.detail))
    told = sorted(aside.items(), key=lambda item: -len(item[1]))
    return [f"{category}: {len(some)} to be set aside: {reason} ({_examples(some)})." for reason, some in told]


def _examples(files: list[str]) -> str:
    return first_of([*map(_printable, files)], SHOWN, "; ")


def _printable(name: str) -> str:
    """A name on one line, without control characters."""
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in shown(name))
