"""A drawn data set of spots of 1, 2, 4 and 8 px on plain textured photographs, in MVTec AD's layout. Arrays are (H, W), H = W = 64 px."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

CATEGORY, SIDE, SIZES = "sheet", 64, (1, 2, 4, 8)


def defect_of(size: int) -> str:
    """The defect type of spots of this edge, in px."""
    return f"spot {size}"


def draw_spots(root: Path, images: int) -> None:
    """Draw twice as many normal photographs as `images` for training and a few for testing, and `images` of each defect type."""
    random = np.random.default_rng(0)
    for split, count in (("train", 2 * images), ("test", 2)):
        for number in range(count):
            save(root / CATEGORY / split / "good" / f"{number:03}.png", sheet(random))
    for size in SIZES:
        for number in range(images):
            mask = spot(size, random)
            photograph = np.where(mask > 0, np.uint8(20), sheet(random))
            save(root / CATEGORY / "test" / defect_of(size) / f"{number:03}.png", photograph)
            save(root / CATEGORY / "ground_truth" / defect_of(size) / f"{number:03}_mask.png", mask * np.uint8(255))


def sheet(random: np.random.Generator) -> NDArray[np.uint8]:
    """A light grey with a coarse grain of some 5 grey levels."""
    grain = ndimage.gaussian_filter(random.normal(size=(SIDE, SIDE)), 2, mode="wrap")
    return np.rint(170 + 5 * grain / grain.std()).clip(0, 255).astype(np.uint8)


def spot(size: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """A mask in {0, 1} of one square somewhere."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    top, left = random.integers(0, SIDE - size, 2, endpoint=True).tolist()
    mask[top : top + size, left : left + size] = 1
    return mask


def save(file: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a grey picture."""
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)
