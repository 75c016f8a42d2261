"""The loss that a small base is pretrained by, and the batches that it draws (not in the paper).

Shapes: N images, B batch, C latent channels, h w latent size, H W image size; masks (B, 1, ., .) in {0, 1}, 1 = defect.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stage.core.digests import derived_seed
from stage.core.fitting import Losses, Part
from stage.core.model_params import Pretrain
from stage.datasets.windows import TURNS, turn
from stage.model.base import Base, pixels_to_tensor
from stage.model.codec import PatchCodec
from stage.model.diffusion import noised, of_unit_variance, velocity
from stage.model.examples import Examples
from stage.model.masks import area_balance, latent_mask


class NoisyBatch(NamedTuple):
    """Rows of an iteration: clean latents, masks on their grid, timesteps, noise, and the numbers of the prompts."""

    latents: Tensor
    masks: Tensor
    t: Tensor
    noise: Tensor
    texts: Tensor


class PretrainingLoss:
    """The velocity loss of one iteration over whole images and isolated defects, weighted by `area_balance`."""

    def __init__(self, base: Base, examples: Examples, params: Pretrain, seed: int) -> None:
        self.base, self.examples, self.params, self.seed = base, examples, params, seed
        self.texts = examples.texts  # once: sorting all prompts twice per iteration takes long where there are many images
        self.number = {text: i for i, text in enumerate(self.texts)}

    def __call__(self, iteration: int) -> Losses:
        """The whole batch at once, whose halves must add up to it; a pure function of the weights and the iteration."""
        return self._share(self._draw(iteration))

    def halves(self, iteration: int) -> list[list[Part]]:
        """The same as a sum over the halves of the batch, which may be computed at once."""
        halves = zip(*(field.chunk(2) for field in self._draw(iteration)), strict=True)
        return [[partial(self._share, NoisyBatch(*half)) for half in halves]]

    def _share(self, rows: NoisyBatch) -> Losses:
        """What some rows of a batch add to its mean."""
        conditions = self.base.embed(self.texts)[rows.texts]
        error = velocity_error(self.base, rows.latents, rows.t, rows.noise, conditions)
        mean = (area_balance(rows.masks, self.params.balance_limit) * error).mean()
        return {"loss": mean * len(rows.t) / self.params.batch}

    def _draw(self, iteration: int) -> NoisyBatch:
        generator = torch.Generator().manual_seed(derived_seed(self.seed, iteration))
        latents, masks, texts = self._rows(generator)
        t = drawn_timesteps(len(latents), self.base.schedule.timestep_count, self.params.low_noise, self.params.low_noise_below, generator)
        return NoisyBatch(latents, masks, t, torch.randn(latents.shape, generator=generator).to(latents.device), texts)

    def _rows(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        defective = round(self.params.batch * self.params.defect_share)
        rows = torch.cat(
            [
                pick(self.examples.normal, self.params.batch - defective, generator),
                pick(self.examples.defective, defective, generator),
            ]
        )
        isolate = torch.arange(self.params.batch) >= self.params.batch - defective // 2
        images, masks = turned(self.examples, rows, generator if self.params.augment else None)
        latents = self.base.encode(pixels_to_tensor(images).to(self.base.unet.device))
        cells = torch.stack([latent_mask(mask, self.base.factor, "max") for mask in masks]).to(latents.device)
        latents = torch.where(isolate[:, None, None, None].to(latents.device), latents * cells, latents)
        texts = [
            (self.examples.isolated if alone else self.examples.prompts)[row] for row, alone in zip(rows.tolist(), isolate, strict=True)
        ]
        return latents, cells, torch.tensor([self.number[text] for text in texts if text], device=latents.device)


def drawn_timesteps(count: int, timestep_count: int, low_noise: float, low_noise_below: int, generator: torch.Generator) -> Tensor:
    """Timesteps (count,) of a batch: with probability `low_noise` uniform below `low_noise_below`, else uniform over all."""
    low = torch.rand(count, generator=generator) < low_noise
    limits = torch.where(low, min(low_noise_below, timestep_count), timestep_count)
    return (torch.rand(count, generator=generator) * limits).long()


def velocity_error(base: Base, latents: Tensor, t: Tensor, noise: Tensor, condition: Tensor) -> Tensor:
    """Squared error (B, C, h, w) of the U-Net's velocity for clean latents at t (B,), weighted by how much a channel counts in pixels."""
    assert isinstance(base.codec, PatchCodec), "only a base from scratch predicts velocity"
    deviation = base.deviation
    shown = of_unit_variance(noised(latents, t, noise, base.schedule), t, base.schedule, deviation)
    error = base.unet(shown, t.to(latents.device), condition).sample - velocity(latents, t, noise, base.schedule, deviation)
    if isinstance(deviation, float):
        return error**2
    in_pixels = base.codec.scale[:, None, None].to(latents.device) * deviation
    return in_pixels / in_pixels.mean() * error**2


def pick(rows: NDArray[np.int64], count: int, generator: torch.Generator) -> Tensor:
    """`count` of `rows`, drawn with replacement; none if `rows` is empty."""
    found = torch.from_numpy(rows)
    return found[torch.randint(len(found), (count,), generator=generator)] if len(found) else found


def turned(examples: Examples, rows: Tensor, generator: torch.Generator | None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images and masks of the rows, each under a random one of the eight quarter turns and flips; unchanged without a generator."""
    turns = torch.randint(TURNS, (len(rows),), generator=generator) if generator else torch.zeros(len(rows), dtype=torch.int64)
    images = np.stack([turn(examples.images[int(i)], int(k)) for i, k in zip(rows, turns, strict=True)])
    return images, np.stack([turn(examples.masks[int(i)], int(k)) for i, k in zip(rows, turns, strict=True)])
