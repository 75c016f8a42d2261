"""Every image file of one category, with its mask or with the reason why it cannot be used."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from stage.core.data_params import FolderRule
from stage.core.errors import DataError
from stage.datasets.rules import GOOD, Expressions, FileRole, compile_rule, mask_of_neighbour
from stage.datasets.walking import SUFFIXES, is_folder, leads_nowhere, shown, spelled, trouble_of, walk

MASKS = ("mask", "bare_mask")  # roles
Key = tuple[str, str]


@dataclass(frozen=True)
class FoundFile:
    """One image file, or a mask without an image. Paths are POSIX and relative to the root; an empty `reason` means usable, `detail` is what differs between files of one reason.

    There are several `masks`, which are joined, only where the layout has a folder of masks for each image. `foregrounds` are the foreground files of a normal training image; at most one is expected.
    """

    image: str | None
    masks: tuple[str, ...] = ()
    defect: str = ""
    source_split: str = ""
    reason: str = ""
    detail: str = ""
    note: str = ""
    foregrounds: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        """Path of the row's file."""
        return self.image or self.mask or ""

    @property
    def mask(self) -> str | None:
        """Path of the mask, or of the folder that holds several; None if there is none."""
        return PurePosixPath(self.masks[0]).parent.as_posix() if len(self.masks) > 1 else next(iter(self.masks), None)


def find(root: Path, category: str, rule: FolderRule, *, with_foregrounds: bool = False) -> list[FoundFile]:
    """The files of `category` in `root`, sorted by path. Raises DataError for a missing or unreadable folder.

    Only the folder that all patterns share is searched; `with_foregrounds` counts the foreground pattern among them.
    """
    patterns = [rule.normal, rule.test_normal, rule.image, rule.mask, rule.foreground if with_foregrounds else ""]
    start = spelled(root, _common_folder(patterns, category))
    if not is_folder(start) or not start.resolve().is_relative_to(root.resolve()):
        raise DataError(
            f"Expected the images of category {category} in the folder {start}, found no such folder inside {root} that may be read. "
            "Correct prepare.source, prepare.layout or categories in params.yaml."
        )
    ours, everyones = compile_rule(rule, category), compile_rule(rule, None)
    placed: list[tuple[str, FileRole]] = []
    strays: list[FoundFile] = []
    for path in sorted(walk(start)):
        relative = path.relative_to(root).as_posix()
        place, trouble = ours.place(relative), trouble_of(path, root)
        if place and not trouble:
            placed.append((relative, place))
        elif place is None and everyones.place(relative):
            continue  # belongs to another category
        elif place or _is_stray(path, relative, ours):
            strays.append(_stray(relative, place, trouble))
    found = [*_assemble(placed, ours, rule), *strays]
    spare = _spare_foregrounds(placed, found) if with_foregrounds else []
    return sorted([*found, *spare], key=lambda each: each.path)


def _spare_foregrounds(placed: list[tuple[str, FileRole]], found: list[FoundFile]) -> list[FoundFile]:
    used = {path for each in found for path in each.foregrounds}
    spare = [path for path, place in placed if place.role == "foreground" and path not in used]
    return [FoundFile(path, defect=GOOD, reason="a foreground without a normal training image of its name") for path in spare]


def _common_folder(patterns: list[str], category: str) -> str:
    parents = [PurePosixPath(text).parent.parts for text in patterns if text]
    fixed: list[str] = []
    for parts in zip(*parents, strict=False):
        if len(set(parts)) > 1 or "*" in parts[0] or "{defect}" in parts[0] or "{name}" in parts[0]:
            break
        fixed.append(parts[0].replace("{category}", category))
    return "/".join(fixed)


def _is_stray(path: Path, relative: str, ours: Expressions) -> bool:
    """Whether a file that no pattern names may have been meant as an image; a link to a folder may lead to images, even if its target is missing now."""
    is_among_images = any(ours.is_folder(folder.as_posix()) for folder in PurePosixPath(relative).parents)
    return is_folder(path) or leads_nowhere(path) or path.suffix.lower() in SUFFIXES or is_among_images


def _stray(path: str, place: FileRole | None, trouble: str) -> FoundFile:
    return FoundFile(shown(path), defect=shown(place.defect) if place else "", reason=trouble or "no rule of the layout names this file")


def _assemble(placed: list[tuple[str, FileRole]], ours: Expressions, rule: FolderRule) -> Iterator[FoundFile]:
    references = _references(placed, rule)
    masks = _masks(placed, references)
    foregrounds: dict[str, tuple[str, ...]] = defaultdict(tuple)
    images: dict[Key, list[FoundFile]] = defaultdict(list)
    bare = {path for path, place in placed if place.role == "bare_mask"}
    for path, place in placed:
        if place.role == "foreground":
            foregrounds[place.name] += (path,)
        elif place.role not in MASKS and path not in references:
            images[_key(path, place)].append(_image(path, place))
    used: set[Key] = set()
    for key, same in images.items():
        for found in same:
            keys = {_mask_key(found, key, ours), key}
            used |= keys
            own = foregrounds[key[1]] if found.source_split == "train" else ()
            paths = [path for one in keys for path in masks.get(one, [])]
            yield _with_mask(replace(found, foregrounds=own), same, sorted(paths), rule, bare)
    for (defect, _), paths in ((key, paths) for key, paths in masks.items() if key not in used):
        yield from (FoundFile(None, (path,), defect, "test", "a mask without an image of its name") for path in paths)


def _masks(placed: list[tuple[str, FileRole]], references: dict[str, Key]) -> dict[Key, list[str]]:
    masks: dict[Key, list[str]] = defaultdict(list)
    for path, place in placed:
        if place.role in MASKS:
            masks[place.defect, place.name].append(path)
    for path, image in references.items():
        masks[image].append(path)
    return masks


def _references(placed: list[tuple[str, FileRole]], rule: FolderRule) -> dict[str, Key]:
    """Masks in folders of normal images, each with the key of its image: `7_mask.png` beside `7.png` is a mask."""
    normal = {path: _key(path, place) for path, place in placed if place.role in ("normal", "test_normal")}
    keys = {*normal.values()}
    named = {path: (key, (key[0], mask_of_neighbour(rule, path) or key[1])) for path, key in normal.items()}
    return {path: image for path, (key, image) in named.items() if image != key and image in keys}


def _key(path: str, place: FileRole) -> Key:
    # A normal image needs no mask, so its name must be unique only within its folder.
    return (place.defect, place.name) if place.role == "image" else (PurePosixPath(path).parent.as_posix(), place.name)


def _image(path: str, place: FileRole) -> FoundFile:
    return FoundFile(path, defect=place.defect, source_split="train" if place.role == "normal" else "test")


def _mask_key(found: FoundFile, key: Key, ours: Expressions) -> Key:
    # Some data sets give normal images an (empty) mask, named by the same pattern.
    as_defect = ours.match("image", found.path) if found.defect == GOOD else None
    return (as_defect.defect, as_defect.name) if as_defect else key


def _with_mask(found: FoundFile, same: list[FoundFile], masks: list[str], rule: FolderRule, bare: set[str]) -> FoundFile:
    others = [other.path for other in same if other.path != found.path]
    if others:
        return replace(found, reason="shares its name with another image, so which one is meant is open: keep one", detail=others[0])
    if len(masks) > 1 and "{name}" in PurePosixPath(rule.mask).name:
        return replace(found, reason="has several masks: keep one", detail=", ".join(masks))
    if not masks and found.defect != GOOD:
        return replace(found, reason=f"has no mask: the layout looks for {rule.mask}")
    is_bare = any(path in bare for path in masks)
    return replace(found, masks=tuple(masks), note="its mask's name lacks the layout's `_mask`" if is_bare else "")
