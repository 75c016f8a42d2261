"""Prepared pixels: every image and mask as a square of one size. As in the paper, the aspect ratio is not kept.

H, W native size, S prepared size. Masks are uint8 in {0, 1}, 1 = defect.
"""

import numpy as np
from PIL import Image
from scipy import ndimage

from stage.datasets.components import components


def resize_image(pixels: np.ndarray, size: int) -> np.ndarray:
    """An image (H, W, 3) uint8 as (S, S, 3) uint8, by Pillow's bicubic filter, antialiased when it shrinks an image."""
    return np.array(Image.fromarray(pixels).resize((size, size), Image.Resampling.BICUBIC))


def resize_mask(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask (H, W) as (S, S): cells at least half covered by defect, and cells of each defect that would otherwise vanish.

    A defect is an 8-connected component. It would vanish if it touched no kept cell, like a spot under half a cell or a thin line.
    Such a defect keeps each cell that it covers at least half as much as its most covered cell, so that a line stays a line.
    """
    if not mask.any():
        return np.zeros((size, size), np.uint8)
    down, across = _overlaps(mask.shape[0], size), _overlaps(mask.shape[1], size).T
    coverage = down @ mask @ across
    is_kept = 2 * coverage >= mask.size
    labels = components(mask)
    rescued = np.zeros_like(is_kept)
    for number, (rows, columns) in enumerate(ndimage.find_objects(labels), 1):
        cells = _cells(rows, mask.shape[0], size), _cells(columns, mask.shape[1], size)
        own = down[cells[0], rows] @ (labels[rows, columns] == number) @ across[columns, cells[1]]
        if not is_kept[cells][own > 0].any():
            rescued[cells] |= own >= own.max() / 2
    return (is_kept | rescued).astype(np.uint8)


def covered(mask: np.ndarray, size: int) -> np.ndarray:
    """A mask (H, W) as (S, S): every cell that a defect pixel touches."""
    return (_overlaps(mask.shape[0], size) @ mask @ _overlaps(mask.shape[1], size).T > 0).astype(np.uint8)


def _cells(pixels: slice, native: int, size: int) -> slice:
    """The cells that some pixels touch."""
    return slice(pixels.start * size // native, -(-pixels.stop * size // native))


def _overlaps(native: int, size: int) -> np.ndarray:
    """Overlap of each cell with each pixel, (S, native), in units of 1/S pixel; a whole cell has `native` of them.

    Sums of integers are exact in float64, so one half is exact for any ratio of the sizes.
    """
    cells, pixels = np.arange(size)[:, None] * native, np.arange(native)[None] * size
    return np.clip(np.minimum(cells + native, pixels + size) - np.maximum(cells, pixels), 0, None).astype(np.float64)
