"""The naming rule of a data set: patterns with {category}, {defect} and {name} that say what each file is."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from stage.core.data_params import FolderRule
from stage.core.errors import ConfigError

ROLES = ("foreground", "normal", "test_normal", "mask", "bare_mask", "image")  # the first match decides, so normal images win over {defect}
SUFFIX = "{name}_mask.*"  # how MVTec AD ends the path of a mask; a `bare_mask` lacks the suffix
NORMAL = ("foreground", "normal", "test_normal")  # roles of files that belong to normal images
PLACEHOLDERS = ("{category}", "{defect}", "{name}")
ONE_DEFECT = "damaged"  # the defect type if no pattern has {defect}, as in the paper for BTAD
GOOD = "good"  # the defect type of normal images, whatever the layout


class FileRole(NamedTuple):
    """The role, defect type and name that a rule gives to one file."""

    role: str
    defect: str
    name: str


class Expressions(NamedTuple):
    """A rule as regular expressions, by role: one for the files, one for the folders that hold them."""

    files: dict[str, re.Pattern[str]]
    folders: dict[str, re.Pattern[str]]

    def place(self, path: str) -> FileRole | None:
        """The role of the file at `path` (POSIX, relative to the root); None if no pattern names it."""
        for role in self.files:
            if found := self.match(role, path):
                return found
        return None

    def match(self, role: str, path: str) -> FileRole | None:
        """As `place`, by the pattern of one role only."""
        found = self.files[role].fullmatch(unicodedata.normalize("NFC", path))
        if found is None:
            return None
        values = found.groupdict()
        return FileRole(role, GOOD if role in NORMAL else values.get("defect", ONE_DEFECT), values["name"])

    def is_folder(self, path: str) -> bool:
        """Whether `path` is a folder in which the rule expects files."""
        return any(folder.fullmatch(unicodedata.normalize("NFC", path)) for folder in self.folders.values())


def compile_rule(rule: FolderRule, category: str | None) -> Expressions:
    """The expressions of `rule` for one category, or for any if None; empty patterns are left out."""
    bare = rule.mask.replace(SUFFIX, "{name}.*") if rule.mask.endswith(f"/{SUFFIX}") else ""
    values = {**rule.model_dump(), "bare_mask": bare if bare not in (rule.image, rule.normal, rule.test_normal) else ""}
    patterns = {role: values[role] for role in ROLES if values[role]}
    parents = {role: PurePosixPath(text).parent.as_posix() for role, text in patterns.items()}
    return Expressions(
        {role: _expression(text, category) for role, text in patterns.items()},
        {role: _expression(text, category) for role, text in parents.items()},
    )


def categories_in(rule: FolderRule, paths: Iterable[str]) -> list[str]:
    """The texts that match {category} in the paths of normal images (POSIX, relative to the root), sorted; none if the pattern lacks it."""
    normal = compile_rule(rule, None).files["normal"]
    matches = (normal.fullmatch(unicodedata.normalize("NFC", path)) for path in paths)
    return sorted({found["category"] for found in matches if found and "category" in normal.groupindex})


def mask_of_neighbour(rule: FolderRule, path: str) -> str | None:
    """The name of the image in the same folder whose mask `path` is, by its file name; None if it is not named as a mask."""
    last = PurePosixPath(rule.mask).name
    found = _expression(last, None).fullmatch(unicodedata.normalize("NFC", PurePosixPath(path).name)) if "{name}" in last else None
    return found["name"] if found else None


def _expression(text: str, category: str | None) -> re.Pattern[str]:
    stem, dot, suffix = text.rpartition(".") if "." in PurePosixPath(text).name else (text, "", "")
    seen: set[str] = set()
    # Cameras on Windows write .PNG, so the extension (and only that) is matched without case.
    return re.compile(f"{_pieces(stem, category, seen)}(?i:{_pieces(dot + suffix, category, seen)})")


def _pieces(text: str, category: str | None, seen: set[str]) -> str:
    return "".join(_piece(token, category, seen) for token in re.split(r"(\{\w*\}|\*)", unicodedata.normalize("NFC", text)))


def _piece(token: str, category: str | None, seen: set[str]) -> str:
    if token == "*":
        return "[^/]*"
    if token == "{category}" and category is not None:
        return re.escape(unicodedata.normalize("NFC", category))
    if token not in PLACEHOLDERS:
        return re.escape(token)
    name = token[1:-1]
    if name in seen:
        return f"(?P={name})"
    seen.add(name)
    return f"(?P<{name}>[^/]+)"


def check_rule(rule: FolderRule, categories: Sequence[str]) -> None:
    """Raise ConfigError if a rule's patterns are unsafe or ambiguous."""
    for key in FolderRule.model_fields:
        problem = _problem(key, getattr(rule, key))
        if problem:
            raise ConfigError(
                f"Expected a pattern below the data folder in prepare.folder.{key}, found {getattr(rule, key)!r}: {problem}. Correct it in params.yaml."
            )
    if ("{defect}" in rule.image) != ("{defect}" in rule.mask):
        raise ConfigError(
            "Expected {defect} in both of prepare.folder.image and prepare.folder.mask or in neither, since a mask belongs to one image, "
            f"found {rule.image!r} and {rule.mask!r}. Correct one of them in params.yaml."
        )
    without = [key for key in ("normal", "image", "mask") if "{category}" not in getattr(rule, key)]
    if without and len(categories) > 1:
        raise ConfigError(
            f"Expected {{category}} in prepare.folder.{without[0]} for the categories {list(categories)}, found none: "
            "each would read the same images. Add it, or name one category."
        )


def _problem(key: str, text: str) -> str:
    return _unsafe(text) or (_not_one_file(text) if key == "groups" else _not_one_place(key, text))


def _unsafe(text: str) -> str:
    parts = PurePosixPath(text).parts
    if text.startswith(("/", "~")) or ".." in parts or "\\" in text or re.match(r"[A-Za-z]:", text):
        return "it may not be absolute, leave the folder by '..', or hold a backslash"
    if "**" in text:
        return "`*` stays within one name, so `**` has no meaning here"
    unknown = [token for token in re.findall(r"\{\w*\}", text) if token not in PLACEHOLDERS]
    return f"{unknown[0]} is unknown; there are {', '.join(PLACEHOLDERS)}" if unknown else ""


def _not_one_file(text: str) -> str:
    return "it names one file, so {defect}, {name} and `*` have no place in it" if re.search(r"\{(defect|name)\}|\*", text) else ""


def _not_one_place(key: str, text: str) -> str:
    if not text:
        return "" if key in ("test_normal", "foreground") else "it is empty"
    if "{name}" not in (text if key == "mask" else PurePosixPath(text).name):
        return "it holds no {name}" if key == "mask" else "its last part holds no {name}"
    if touching := re.search(r"\{\w*\}\{\w*\}", text):
        return f"nothing says where the first of {touching[0]} ends; there must be something between them"
    return "normal images have no {defect}" if key in NORMAL and "{defect}" in text else ""
