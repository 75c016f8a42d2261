"""Every image file of one category, with its mask or with the reason why it cannot be used."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from stage.core.data_params import FolderRule
from stage.core.errors import DataError
from stage.datasets.rules import GOOD, Expressions, FileRole, compile_rule

SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".mpo", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".webp", ".pbm", ".pgm", ".ppm", ".jp2"}
Key = tuple[str, str]


@dataclass(frozen=True)
class Found:
    """One image file, or a mask without an image. Paths are POSIX and relative to the root; an empty `reason` means usable.

    `foregrounds` are the foreground files of a normal training image; at most one is expected.
    """

    image: str | None
    mask: str | None = None
    defect: str = ""
    source_split: str = ""
    reason: str = ""
    foregrounds: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Path of the row's file."""
        return self.image or self.mask or ""


def find(root: Path, category: str, rule: FolderRule, *, with_foregrounds: bool = False) -> list[Found]:
    """The files of `category` in `root`, sorted by path. Raises DataError for a missing or unreadable folder.

    Only the folder that all patterns share is searched; `with_foregrounds` counts the foreground pattern among them.
    """
    patterns = [rule.normal, rule.test_normal, rule.image, rule.mask, rule.foreground if with_foregrounds else ""]
    start = root / _common_folder(patterns, category)
    if not start.is_dir() or not start.resolve().is_relative_to(root.resolve()):
        raise DataError(
            f"Expected the images of category {category} in the folder {start}, found no such folder inside {root}. "
            "Correct prepare.source, prepare.layout or categories in params.yaml."
        )
    ours, everyones = compile_rule(rule, category), compile_rule(rule, None)
    placed: list[tuple[str, FileRole]] = []
    strays: list[Found] = []
    for path in _walk(start):
        relative = path.relative_to(root).as_posix()
        place, trouble = ours.place(relative), _trouble(path, root)
        if place and not trouble:
            placed.append((relative, place))
        elif place is None and everyones.place(relative):
            continue  # of another category
        elif place or _is_stray(path, relative, ours):
            strays.append(_stray(relative, place, trouble))
    return sorted([*_assemble(placed, ours), *strays], key=lambda found: found.path)


def _common_folder(patterns: list[str], category: str) -> str:
    parents = [PurePosixPath(text).parent.parts for text in patterns if text]
    fixed: list[str] = []
    for parts in zip(*parents, strict=False):
        if len(set(parts)) > 1 or "*" in parts[0] or "{defect}" in parts[0] or "{name}" in parts[0]:
            break
        fixed.append(parts[0].replace("{category}", category))
    return "/".join(fixed)


def _walk(folder: Path) -> Iterator[Path]:
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"Expected a folder that may be read at {folder}, found: {error.strerror}. Correct its permissions.") from None
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        else:
            yield path


def _trouble(path: Path, root: Path) -> str:
    if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
        return "a link that leaves the data folder: copy the file itself there"
    if path.is_dir():
        return "a linked folder, which is not followed: copy the folder itself there"
    if not path.is_file():
        return "not a file"
    if any("\udc80" <= letter <= "\udcff" for letter in path.as_posix()):
        return "its name is not valid UTF-8: rename it"
    if path.suffix.lower() not in SUFFIXES:
        return "not an image file, by its extension"
    return ""


def _is_stray(path: Path, relative: str, ours: Expressions) -> bool:
    """Whether a file that no pattern names may have been meant as an image; a linked folder may hold images."""
    return path.is_dir() or path.suffix.lower() in SUFFIXES or ours.is_folder(PurePosixPath(relative).parent.as_posix())


def _stray(path: str, place: FileRole | None, trouble: str) -> Found:
    shown = path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return Found(shown, defect=place.defect if place else "", reason=trouble or "no rule of the layout names this file")


def _assemble(placed: list[tuple[str, FileRole]], ours: Expressions) -> Iterator[Found]:
    masks: dict[Key, list[str]] = defaultdict(list)
    foregrounds: dict[str, tuple[str, ...]] = defaultdict(tuple)
    images: dict[Key, list[Found]] = defaultdict(list)
    for path, place in placed:
        if place.role == "mask":
            masks[place.defect, place.name].append(path)
        elif place.role == "foreground":
            foregrounds[place.name] += (path,)
        else:
            images[_key(path, place)].append(_image(path, place))
    used: set[Key] = set()
    for key, same in images.items():
        for found in same:
            mask_key = _mask_key(found, key, ours)
            used.add(mask_key)
            own = foregrounds[key[1]] if found.source_split == "train" else ()
            yield _with_mask(replace(found, foregrounds=own), same, masks.get(mask_key, []))
    for (defect, _), paths in ((key, paths) for key, paths in masks.items() if key not in used):
        yield from (Found(None, path, defect, "test", "a mask without an image of its name") for path in paths)


def _key(path: str, place: FileRole) -> Key:
    # A normal image needs no mask, so its name must be unique only within its folder.
    return (place.defect, place.name) if place.role == "image" else (PurePosixPath(path).parent.as_posix(), place.name)


def _image(path: str, place: FileRole) -> Found:
    return Found(path, defect=place.defect, source_split="train" if place.role == "normal" else "test")


def _mask_key(found: Found, key: Key, ours: Expressions) -> Key:
    # Some data sets give normal images an (empty) mask, named by the same pattern.
    as_defect = ours.match("image", found.path) if found.defect == GOOD else None
    return (as_defect.defect, as_defect.name) if as_defect else key


def _with_mask(found: Found, same: list[Found], masks: list[str]) -> Found:
    others = [other.path for other in same if other.path != found.path]
    if others:
        return replace(found, reason=f"shares its name with {others[0]}, so which one is meant is open: keep one")
    if len(masks) > 1:
        return replace(found, reason=f"has {len(masks)} masks, {masks[0]} and {masks[1]}: keep one")
    if not masks and found.defect != GOOD:
        return replace(found, reason="has no mask: the layout's pattern for it names no file")
    return replace(found, mask=masks[0] if masks else None)
