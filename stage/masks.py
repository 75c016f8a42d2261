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

Reduction = Literal["max", "antialias"]
FULL_STRENGTH_WIDTH = 6  # px; components up to this width are pasted hard (the depth at the middle of 5 and of 6 px is the same 3)


def latent_mask(mask: NDArray[np.uint8], factor: int, reduction: Reduction) -> Tensor:
    """The mask on the latent grid. `max` keeps a cell for every defect pixel; `antialias` (released code) may lose thin ones."""
    pixels = torch.from_numpy(mask.astype(np.float32))[None]
    if reduction == "max":
        return max_pool2d(pixels, factor)
    size = (mask.shape[0] // factor, mask.shape[1] // factor)
    return (interpolate(pixels[None], size=size, mode="bicubic", antialias=True)[0] > 0.5).float()


def paste_weights(mask: NDArray[np.uint8], feather: int) -> NDArray[np.float32]:
    """Weight of the synthetic pixels, (H, W) in [0, 1]: 0 outside the mask, softened inward over `feather` px, 1 at every core.

    Components up to 6 px wide keep weight 1 throughout, so that a tiny defect keeps its full strength.
    """
    weights = mask.astype(np.float32)
    components, count = ndimage.label(mask, structure=np.ones((3, 3)))
    for component in range(1, count + 1):
        inside = components == component
        depth = ndimage.distance_transform_edt(np.pad(inside, 1))[1:-1, 1:-1]
        if (core := depth.max()) > FULL_STRENGTH_WIDTH / 2:
            weights[inside] = np.minimum(1, depth / min(feather + 1, core))[inside]
    return weights


def paste_back(synthetic: NDArray[np.uint8], background: NDArray[np.uint8], mask: NDArray[np.uint8], feather: int) -> NDArray[np.uint8]:
    """`synthetic` inside the mask, `background` byte for byte outside it; (H, W, 3) uint8 each."""
    weights = paste_weights(mask, feather)[..., None]
    mixed = weights * synthetic + (1 - weights) * background
    return np.where(weights > 0, np.rint(mixed), background).astype(np.uint8)


def area_balance(masks: Tensor, limit: float) -> Tensor:
    """Weights (B, 1, h, w): the inverse of the mask's share of the image inside it, at most `limit`, and 1 outside."""
    factor = (1 / masks.mean((1, 2, 3), keepdim=True).clamp(min=1e-9)).clamp(max=limit)
    return torch.where(masks > 0, factor, 1.0)
