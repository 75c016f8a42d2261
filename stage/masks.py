"""Masks from pixels to latents, and decoded pixels back into the photograph.

Masks are (H, W) uint8 in {0, 1} in pixels and (1, h, w) float32 in {0, 1} in latents; 1 = defect.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

from stage.components import components

Reduction = Literal["max", "antialias"]
FULL_STRENGTH_WIDTH = 6  # px; components up to this width are pasted hard (the depth at the middle of 5 and of 6 px is the same 3)


def latent_mask(mask: NDArray[np.uint8], factor: int, reduction: Reduction) -> Tensor:
    """The mask on the latent grid. `max` keeps a cell for every defect pixel; `antialias` (released code) may lose thin ones."""
    pixels = torch.from_numpy(mask.astype(np.float32))[None]
    if reduction == "max":
        return max_pool2d(pixels, factor)
    size = (mask.shape[0] // factor, mask.shape[1] // factor)
    return (interpolate(pixels[None], size=size, mode="bilinear", antialias=True)[0] > 0.5).float()


def bounding_box(mask: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Rows and columns of the smallest rectangle around a mask (H, W); of nothing, the first pixel."""
    rows, columns = (np.flatnonzero(mask.any(axis)) if mask.any() else np.zeros(1, np.int64) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def paste_weights(mask: NDArray[np.uint8], feather: int) -> NDArray[np.float32]:
    """Weight of the synthetic pixels, (H, W) in [0, 1]: 0 outside the mask, softened inward over `feather` px, 1 at every core.

    Components up to 6 px wide keep weight 1 throughout, so that a tiny defect keeps its full strength.
    """
    weights = mask.astype(np.float32)
    labels = components(mask)
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        if min(side.stop - side.start for side in box) <= FULL_STRENGTH_WIDTH:
            continue
        inside = labels[box] == number
        depths: NDArray[np.float64] = ndimage.distance_transform_edt(np.pad(inside, 1))  # pyright: ignore[reportAssignmentType]  # None if asked
        depth = depths[1:-1, 1:-1]
        if (core := depth.max()) > FULL_STRENGTH_WIDTH / 2:
            weights[box][inside] = np.minimum(1, depth / min(feather + 1, core))[inside]
    return weights


def paste_back(synthetic: NDArray[np.uint8], background: NDArray[np.uint8], mask: NDArray[np.uint8], feather: int) -> NDArray[np.uint8]:
    """`synthetic` inside the mask, `background` byte for byte outside it; (H, W, 3) uint8 each. Computes within the mask's bounding box."""
    box = bounding_box(mask)
    weights = paste_weights(mask[box], feather)[..., None]
    mixed = weights * synthetic[box] + (1 - weights) * background[box]
    pasted = background.copy()
    pasted[box] = np.where(weights > 0, np.rint(mixed), background[box])
    return pasted


def area_balance(masks: Tensor, limit: float) -> Tensor:
    """Weights (B, 1, h, w): the inverse of the mask's share of the image inside it, at most `limit`, and 1 outside."""
    factor = (1 / masks.mean((1, 2, 3), keepdim=True).clamp(min=1e-9)).clamp(max=limit)
    return torch.where(masks > 0, factor, 1.0)
