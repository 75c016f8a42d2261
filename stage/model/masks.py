"""Masks on the latent grid, and the loss weights made from them.

Masks are (H, W) uint8 in {0, 1} in pixels and (1, h, w) float32 in {0, 1} in latents; 1 = defect.
"""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate, max_pool2d

Reduction = Literal["max", "released"]


def latent_mask(mask: NDArray[np.uint8], factor: int, reduction: Reduction) -> Tensor:
    """The mask on the latent grid. `max` marks each cell with a defect pixel; `released` (the released code's) may lose thin ones."""
    pixels = torch.from_numpy(mask.astype(np.float32))[None]
    if reduction == "max":
        return max_pool2d(pixels, factor)
    size = (mask.shape[0] // factor, mask.shape[1] // factor)
    return (interpolate(pixels[None], size=size, mode="bilinear", antialias=True)[0] >= 0.5).float()


def area_balance(masks: Tensor, limit: float) -> Tensor:
    """Weights (B, 1, h, w): inside the mask, the inverse of its share of the image, at most `limit`; outside, 1."""
    factor = (1 / masks.mean((1, 2, 3), keepdim=True).clamp(min=1e-9)).clamp(max=limit)
    return torch.where(masks > 0, factor, 1.0)
