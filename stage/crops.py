"""Windows around defects: what of a photograph the base is shown, and the way back into the photograph. Not in the paper.

H image size, S side of a window, s the base's image size, h w latent size. Images are squares (H, H, 3) uint8, masks (H, H)
uint8 in {0, 1}, 1 = defect.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stage.datasets.resize import covered, resize_image, resize_mask
from stage.masks import bounding_box, paste_back
from stage.params import Crop


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
    """The window around a mask's bounding box: it holds the whole mask, lies in the image, and is all of it where nothing is cropped.

    Defects smaller than `crop.below` get one in which their larger side takes `crop.defect_share`; others one of the base's size,
    or larger by the same rule. Around nothing it lies in the corner.
    """
    rows, columns = bounding_box(mask)
    extent = max(rows.stop - rows.start, columns.stop - columns.start)
    lowest = crop.smallest if extent < crop.below else base_size
    side = min(max(lowest, math.ceil(extent / crop.defect_share)), len(mask))
    return Window(_start(rows, side, len(mask)), _start(columns, side, len(mask)), side)


def random_window(side: int, image_side: int, random: np.random.Generator) -> Window:
    """A window of that side anywhere in an image."""
    top, left = random.integers(0, image_side - side, 2, endpoint=True).tolist()
    return Window(top, left, side)


def cut(pixels: NDArray[np.uint8], place: Window, size: int) -> NDArray[np.uint8]:
    """What is seen of an image or a mask through a window, as (size, size); no pixel of a mask is lost where it is reduced."""
    seen = pixels[place.region]
    if place.side == size:
        return seen
    if pixels.ndim == 3:
        return resize_image(seen, size)
    return covered(seen, size) if place.side > size else resize_mask(seen, size)


def paste(
    synthetic: NDArray[np.uint8], background: NDArray[np.uint8], mask: NDArray[np.uint8], place: Window, feather: int
) -> NDArray[np.uint8]:
    """`synthetic` (s, s, 3), made for a window, inside the mask of the photograph; `background` byte for byte outside it, (H, H, 3)."""
    image = background.copy()
    image[place.region] = paste_back(_resized(synthetic, place.side), background[place.region], mask[place.region], feather)
    return image


def held(mask: NDArray[np.uint8], place: Window, cells: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The defect pixels (H, H) that the base is shown: those which a marked cell of the window's latent mask (h, w) covers or touches."""
    rows, columns = np.nonzero(mask[place.region])
    above = np.pad(cells.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))  # marked cells up to here, both ways
    (top, bottom), (left, right) = (_cells(pixels, place.side, len(cells)) for pixels in (rows, columns))
    marked = above[bottom, right] - above[top, right] - above[bottom, left] + above[top, left]
    shown = np.zeros(mask.shape, bool)
    shown[place.top + rows, place.left + columns] = marked > 0
    return shown


def _resized(synthetic: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if len(synthetic) <= side:
        return synthetic if len(synthetic) == side else resize_image(synthetic, side)
    # The mean over each pixel's own area: a wider filter would mix its surroundings into a defect of a few pixels.
    return np.array(Image.fromarray(synthetic).resize((side, side), Image.Resampling.BOX))


def _start(box: slice, side: int, image_side: int) -> int:
    centred = (box.start + box.stop - side) // 2
    return min(max(centred, 0), image_side - side)


def _cells(pixels: NDArray[np.int64], side: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First cell that each pixel touches, and the one after the last, of `count` along `side` px."""
    return pixels * count // side, -(-(pixels + 1) * count // side)
