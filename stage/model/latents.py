"""The constant part of a category's training set, encoded once: latents and latent masks under every turn.

Shapes: N defective images, V variants (turns and flips), K latents of normal images, C latent channels, h w latent size;
masks (.., 1, h, w) in {0, 1}.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from stage.core.errors import ConfigError
from stage.core.model_params import StageMethod
from stage.datasets.examples import DefectImages, Pictures
from stage.datasets.windows import TURNS, Window, cut, turn, window
from stage.model.base import Base, pixels_to_tensor
from stage.model.masks import latent_mask


@dataclass(frozen=True)
class CachedLatents:
    """The constant part of the training set.

    Latents (N, V, C, h, w), masks (N, V, 1, h, w) and type numbers (N,) of the defective images, each through its window.
    `normal` (K, C, h, w) are latents of normal images through the same windows, none if no defect is hidden, in groups of `group_size`; `groups` (N, V) says
    where the group of a row and variant begins.
    """

    latents: Tensor
    masks: Tensor
    types: Tensor
    normal: Tensor
    groups: Tensor
    group_size: int

    @classmethod
    @torch.no_grad()
    def encode(
        cls, base: Base, data: DefectImages, method: StageMethod, *, augment: bool, image_size: int, hides: bool = True
    ) -> "CachedLatents":
        """Encode every image once under every variant, at the base's size, (image_size, image_size) px; normal ones only if some `hides` a defect.

        An image whose defect has no cell is left out, with a message: an empty mask would teach to draw defects outside masks.
        """
        data = _with_cells(base, data, method, image_size)
        turns = range(TURNS) if augment else range(1)
        windows = [window(mask, method.crop, image_size) for mask in data.masks]
        images = [_encode(base, cut(image, place, image_size), turns) for image, place in zip(data.images, windows, strict=True)]
        seen = [cut(mask, place, image_size) for mask, place in zip(data.masks, windows, strict=True)]
        masks = [torch.stack([latent_mask(turn(mask, k), base.factor, method.mask_reduction) for k in turns]) for mask in seen]
        # A window's defect is hidden by the same window of a normal image, turned alike; a whole image's by one that is not turned.
        is_whole = all(place.side == len(mask) for place, mask in zip(windows, data.masks, strict=True))
        places, hidden_turns = sorted(set(windows)), range(1) if is_whole else turns
        size = -(-len(data.normal) // len(places))
        groups = torch.tensor([[(places.index(place) * len(hidden_turns) + k) * size for k in hidden_turns] for place in windows])
        latents = torch.stack(images)
        normal = latents.new_empty(len(places), len(hidden_turns), size if hides else 0, *latents.shape[2:])
        _encode_normals(base, data.normal, places, hidden_turns, image_size, normal)
        return cls(
            latents,
            torch.stack(masks).to(base.unet.device),
            torch.tensor([data.types.index(defect) for defect in data.defects]),
            normal.flatten(0, 2),
            groups.expand(-1, len(turns)),
            size,
        )

    def normals(self, rows: Tensor, variants: Tensor, random: torch.Generator) -> Tensor:
        """The places in `normal` (B,) of random images, with the window and the turn of these rows and variants, (B,) each."""
        return self.groups[rows, variants] + torch.randint(self.group_size, (len(rows),), generator=random)

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Lowest and highest value of every latent channel, (C, 1, 1) each."""
        return self.latents.amin((0, 1, 3, 4))[:, None, None], self.latents.amax((0, 1, 3, 4))[:, None, None]


def _with_cells(base: Base, data: DefectImages, method: StageMethod, image_size: int) -> DefectImages:
    """The images whose mask has a cell on the latent grid; raises ConfigError if a type has none left."""
    views = (cut(mask, window(mask, method.crop, image_size), image_size) for mask in data.masks)
    rows = [k for k, seen in enumerate(views) if latent_mask(seen, base.factor, method.mask_reduction).any()]
    kept = [data.defects[k] for k in rows]
    if lost := sorted({*data.defects} - {*kept}):
        raise ConfigError(
            f"Expected defects of every type of {data.category} to have a cell on the latent grid, found none of {', '.join(lost)} with "
            f"method.mask_reduction {method.mask_reduction}. Set it to max in params.yaml."
        )
    if len(rows) < len(data.masks):
        Console(stderr=True).print(f"{len(data.masks) - len(rows)} of {len(data.masks)} training images of {data.category} have no cell.")
    return replace(data, images=data.images[rows], masks=data.masks[rows], defects=kept)


def _encode_normals(base: Base, normal: Pictures, places: list[Window], turns: range, image_size: int, latents: Tensor) -> None:
    """Fill `latents` (windows, turns, size, C, h, w), which are held once, with normal images spread evenly over the distinct windows."""
    for number, place in enumerate(places):
        for j in range(latents.shape[2]):
            image = normal[(number + j * len(places)) % len(normal)]
            latents[number, :, j] = _encode(base, cut(image, place, image_size), turns)


def _encode(base: Base, image: NDArray[np.uint8], turns: Iterable[int]) -> Tensor:
    """Latents (turns, C, h, w) of an image's variants: one call per image, so that memory does not grow with the data set."""
    return base.encode(pixels_to_tensor(np.stack([turn(image, k) for k in turns])).to(base.unet.device))
