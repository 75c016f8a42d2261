"""What is constant of a category's training set, encoded once: latents and latent masks under every turn.

Shapes: N images, V variants (turns and flips), C latent channels, h w latent size; masks (.., 1, h, w) in {0, 1}.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stage.augment import TURNS, turn
from stage.base import Base, pixels_to_tensor
from stage.examples import DefectImages
from stage.masks import latent_mask
from stage.params import Method


@dataclass(frozen=True)
class CachedLatents:
    """Everything of the training set that is constant.

    Latents (N, V, C, h, w), masks (N, V, 1, h, w) and type numbers (N,) of the defective images, latents (K, C, h, w) of normal ones.
    """

    latents: Tensor
    masks: Tensor
    types: Tensor
    normal: Tensor

    @classmethod
    @torch.no_grad()
    def encode(cls, base: Base, data: DefectImages, method: Method, *, augment: bool) -> "CachedLatents":
        """Encode every image once under every variant."""
        turns = range(TURNS) if augment else range(1)
        images = [base.encode(pixels_to_tensor(np.stack([turn(image, k) for k in turns])).to(base.unet.device)) for image in data.images]
        masks = [torch.stack([latent_mask(turn(mask, k), base.factor, method.mask_reduction) for k in turns]) for mask in data.masks]
        return cls(
            torch.stack(images),
            torch.stack(masks).to(base.unet.device),
            torch.tensor([data.types.index(defect) for defect in data.defects]),
            torch.cat([base.encode(pixels_to_tensor(image[None]).to(base.unet.device)) for image in data.normal]),
        )

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest value of every latent channel, (C, 1, 1) each."""
        return self.latents.amin((0, 1, 3, 4))[:, None, None], self.latents.amax((0, 1, 3, 4))[:, None, None]
