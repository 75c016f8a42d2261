"""The embedded demo: two categories drawn by code, in the layout of MVTec AD, with exact masks.

Pictures are (128, 128, 3) uint8; masks (128, 128) uint8, 255 = defect.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import binary_fill_holes

from stage.core.durable import refuse_foreign, replace_folder
from stage.datasets.blending import paste_back
from stage.datasets.demo.canvas import Array, Drawing, painted
from stage.datasets.demo.fabric import draw_cloth, pinhole, stain
from stage.datasets.demo.washer import corrosion, draw_washer, scratch
from stage.datasets.pairs import Pair
from stage.datasets.resize import resize_image, resize_mask
from stage.datasets.rules import GOOD

GOOD_COUNTS = {"train": 40, "test": 12}
DEFECT_COUNT = 11
NORMAL: dict[str, Callable[[np.random.Generator], Array]] = {
    "fabric": draw_cloth,
    "washer": lambda rng: draw_washer(rng).picture,
}
DEFECTS: dict[str, dict[str, Callable[[np.random.Generator, np.random.Generator], Drawing]]] = {
    "fabric": {
        "stain": lambda part, damage: stain(draw_cloth(part), damage),
        "pinhole": lambda part, damage: pinhole(draw_cloth(part), damage),
    },
    "washer": {
        "scratch": lambda part, damage: scratch(draw_washer(part), damage),
        "corrosion": lambda part, damage: corrosion(draw_washer(part), damage),
    },
}
MARK = "STAGE demo data set"  # the readme's first words, which mark a folder that may be replaced
README = "readme.txt"
PERFECT = "perfect"  # replaces the split in a photograph's identity, so that it equals none of the data set
MIN_COVERAGE = 0.3  # of a pixel; one with less is not damaged
MIN_DIFFERENCE = 8  # of 255; a pixel that the damage changes less stays clean and unmasked, unless the mask encloses it


@dataclass(frozen=True)
class DrawnPhotograph:
    """An image, the same image without its defect, and the mask of the pixels in which they differ."""

    image: NDArray[np.uint8]
    clean: NDArray[np.uint8]
    mask: NDArray[np.uint8]


def write_demo(root: Path, seed: int, categories: Iterable[str] = tuple(DEFECTS)) -> None:
    """Draw some of the demo's categories under `root`, replacing an earlier demo as a whole. The same seed gives the same bytes.

    Raises Refusal if `root` is a file or a folder with anything else in it, at any depth.
    """
    root = root.resolve()
    refuse_foreign(root, [README, *_files()] if _is_demo(root) else (), "demo")
    fresh = root.with_name(f".{root.name}.drawing")
    shutil.rmtree(fresh, ignore_errors=True)
    for category in categories:
        _write_category(fresh / category, category, seed)
    (fresh / README).write_text(f"{MARK}, drawn by stage/datasets/demo/dataset.py with seed {seed}.\nLicence: CC0-1.0.\n", encoding="utf-8")
    replace_folder(fresh, root)


def _is_demo(root: Path) -> bool:
    """Whether the readme identifies a demo."""
    readme = root / README
    return readme.is_file() and readme.read_text(encoding="utf-8", errors="replace").startswith(MARK)


class _Place(NamedTuple):
    """Which photograph of a category it is; as in `draw`."""

    split: str
    defect: str
    number: int

    @property
    def image(self) -> str:
        return f"{self.split}/{self.defect}/{self.number:03d}.png"

    @property
    def mask(self) -> str:
        """Empty for a normal photograph."""
        return "" if self.defect == GOOD else f"ground_truth/{self.defect}/{self.number:03d}_mask.png"


def _places(category: str) -> Iterator[_Place]:
    yield from (_Place(split, GOOD, index) for split, count in GOOD_COUNTS.items() for index in range(count))
    yield from (_Place("test", defect, index) for defect in DEFECTS[category] for index in range(DEFECT_COUNT))


def _files() -> Iterator[str]:
    """The paths of all pictures of the demo."""
    yield from (f"{category}/{file}" for category in DEFECTS for place in _places(category) for file in (place.image, place.mask) if file)


def _write_category(folder: Path, category: str, seed: int) -> None:
    for place in _places(category):
        photograph = draw(category, *place, seed=seed)
        _save(photograph.image, folder / place.image)
        if place.mask:
            _save(photograph.mask, folder / place.mask)


def _save(pixels: NDArray[np.uint8], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def draw(category: str, split: str, defect: str, index: int, *, seed: int) -> DrawnPhotograph:
    """One photograph of the demo; `defect` is `good` for none. It depends on its arguments alone, not on other photographs."""
    identity = f"{seed}|{category}|{split}|{defect}|{index}"
    part, damage = np.random.default_rng(int.from_bytes(blake2b(identity.encode(), digest_size=16).digest())).spawn(2)
    if defect != GOOD:
        return _photographed(DEFECTS[category][defect](part, damage))
    clean = np.rint(NORMAL[category](part)).astype(np.uint8)
    return DrawnPhotograph(clean, clean, np.zeros(clean.shape[:2], np.uint8))


def perfect_pairs(category: str, count: int, size: int, *, seed: int) -> list[Pair]:
    """Freshly drawn photographs with exact masks, `count` of each defect type in turn, as (size, size); none is in the data set.

    They are what a perfect generator would make, pasted on the undamaged part as every method's samples are. An arm that trains on them
    shows how much any samples could add, and that pasting costs nothing.
    """
    drawn = (draw(category, PERFECT, defect, index, seed=seed) for defect in DEFECTS[category] for index in range(count))
    return [_pasted(photograph, size) for photograph in drawn]


def _pasted(photograph: DrawnPhotograph, size: int) -> Pair:
    mask = resize_mask(photograph.mask // 255, size)
    damaged, clean = (resize_image(picture, size) for picture in (photograph.image, photograph.clean))
    return Pair(paste_back(damaged, clean, mask), mask)


def _photographed(drawing: Drawing) -> DrawnPhotograph:
    """Apply the damage to the clean part inside the mask only, so that the mask is exact."""
    clean = np.rint(drawing.clean).astype(np.uint8)
    damaged = np.rint(np.clip(painted(drawing.clean, drawing.damaged, drawing.coverage), 0, 255)).astype(np.uint8)
    covered = drawing.coverage >= MIN_COVERAGE
    changed = covered & (np.abs(damaged.astype(int) - clean).max(axis=2) >= MIN_DIFFERENCE)
    mask = np.asarray(binary_fill_holes(changed), dtype=bool) & covered
    # Pixels inside the damage that look undamaged by chance are darkened: they belong to the mask, so they must differ.
    damaged[mask & ~changed] = np.maximum(clean[mask & ~changed], MIN_DIFFERENCE) - MIN_DIFFERENCE
    return DrawnPhotograph(np.where(mask[..., None], damaged, clean), clean, np.where(mask, 255, 0).astype(np.uint8))
