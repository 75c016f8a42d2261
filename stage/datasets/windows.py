"""Windows around defects: the part of a photograph that the base is shown. Not in the paper.

H image size, S side of a window, s the base's image size, h w latent size. Images are squares (H, H, 3) uint8, masks (H, H)
uint8 in {0, 1}, 1 = defect.
"""

import math
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from stage.core.model_params import Crop
from stage.datasets.components import bounding_box
from stage.datasets.resize import covered, resize_image, resize_mask


class Window(NamedTuple):
    """A square of a photograph, in px."""

    top: int
    left: int
    side: int

    @property
    def region(self) -> tuple[slice, slice]:
        """Its rows and columns."""
        return slice(self.top, self.top + self.side), slice(self.left, self.left + self.side)


def window(mask: NDArray[np.uint8], crop: Crop, base_size: int) -> Window:
    """The window around a mask's bounding box; it lies in the image and holds the whole mask.

    Its side is the defect's larger side divided by `crop.defect_share`, but at least `crop.smallest` for a defect smaller than
    `crop.below` and `base_size` for others, and at most the image's side. An empty mask's window lies in the corner.
    """
    rows, columns = bounding_box(mask)
    extent = max(rows.stop - rows.start, columns.stop - columns.start)
    lowest = crop.smallest if extent < crop.below else base_size
    side = min(max(lowest, math.ceil(extent / crop.defect_share)), len(mask))
    return Window(first_pixel(rows.start, rows.stop, side, len(mask)), first_pixel(columns.start, columns.stop, side, len(mask)), side)


def random_window(side: int, image_side: int, random: np.random.Generator) -> Window:
    """A window of this side at a random place in an image."""
    top, left = random.integers(0, image_side - side, 2, endpoint=True).tolist()
    return Window(top, left, side)


def cut(pixels: NDArray[np.uint8], place: Window, size: int) -> NDArray[np.uint8]:
    """The part of an image or a mask inside a window, as (size, size); reducing a mask loses no defect pixel."""
    seen = pixels[place.region]
    if place.side == size:
        return seen
    if pixels.ndim == 3:
        return resize_image(seen, size)
    return covered(seen, size) if place.side > size else resize_mask(seen, size)


def shown_pixels(mask: NDArray[np.uint8], place: Window, cells: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The defect pixels (H, H) that the base is shown: those that touch a marked cell of the window's latent mask (h, w)."""
    rows, columns = np.nonzero(mask[place.region])
    above = np.pad(cells.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))  # a summed-area table of marked cells
    (top, bottom), (left, right) = (_cells(pixels, place.side, len(cells)) for pixels in (rows, columns))
    marked = above[bottom, right] - above[top, right] - above[bottom, left] + above[top, left]
    shown = np.zeros(mask.shape, bool)
    shown[place.top + rows, place.left + columns] = marked > 0
    return shown


def first_pixel(first: int, end: int, side: int, length: int) -> int:
    """The first of `side` px centred on a box from `first` to before `end`, moved to lie within an image's `length`."""
    return min(max((first + end - side) // 2, 0), length - side)


def _cells(pixels: NDArray[np.int64], side: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first cell that each pixel touches and the one after its last, for `count` cells along `side` px."""
    return pixels * count // side, -(-(pixels + 1) * count // side)


Scalar = TypeVar("Scalar", bound=np.generic)


TURNS = 8


def turn(pixels: NDArray[Scalar], k: int) -> NDArray[Scalar]:
    """(H, W, ...) after k % 4 quarter turns, mirrored for k >= 4; k = 0 changes nothing."""
    quarter = np.rot90(pixels, k % 4)
    return np.ascontiguousarray(quarter[:, ::-1] if k >= 4 else quarter)
