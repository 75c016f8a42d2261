"""STAGE itself: a batch of plan rows becomes images, by Algorithm 1 and the paste back into the photograph."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stage.augment import turn
from stage.base import pixels_to_tensor, tensor_to_pixels
from stage.checkpoints import Checkpoint
from stage.diffusion import SamplingRule, sample
from stage.masks import latent_mask, paste_back
from stage.pairs import Pair
from stage.params import Method, Prompts, Synthesize
from stage.schedule import Branch, Transition, resampling_transitions, timesteps, transitions
from stage.synthesis.plan import PlanRow


class Source(NamedTuple):
    """What plan rows name, by the content hash of its file: images (H, W, 3) for the backgrounds, masks (H, W), uint8."""

    backgrounds: dict[str, Pair]
    masks: dict[str, Pair]


class Renderer:
    """Samples of one category; holds the network, the text conditions and the moves, which all batches share."""

    def __init__(self, checkpoint: Checkpoint, method: Method, params: Synthesize, templates: Prompts, device: str) -> None:
        self.generator, self.params, self.method, self.device = checkpoint.generator.to(device), params, method, device
        with torch.inference_mode():
            self.conditions = self.generator.conditions(templates)
        self.moves = moves(params, self.generator.base.schedule.timestep_count)
        low, high = (bound.to(device) for bound in checkpoint.bounds)
        self.rule = SamplingRule(
            schedule=self.generator.base.schedule,
            graded_intervals=params.graded_intervals,
            alignment_threshold=method.alignment_threshold if method.alignment == "scheduled" else None,
            known_region=params.known_region,
            x_0_bounds=(low, high) if params.clamp else None,
        )

    @torch.inference_mode()
    def render(self, rows: Sequence[PlanRow], source: Source) -> list[Pair]:
        """The samples of up to `batch` rows of one defect type.

        The network always sees a whole batch, the tail filled with the last row, because floating point depends on the shape.
        """
        slots = [rows[min(k, len(rows) - 1)] for k in range(self.params.batch)]
        backgrounds = np.stack([source.backgrounds[row.background_sha256].image for row in slots])
        masks = [turn(source.masks[row.mask_sha256].mask, row.mask_turn) for row in slots]
        cells = torch.stack([latent_mask(mask, self.generator.base.factor, self.method.mask_reduction) for mask in masks]).to(self.device)
        x_back = self.generator.base.encode(pixels_to_tensor(backgrounds).to(self.device))
        predict = partial(self._predict_noise, number=self.generator.types.index(rows[0].defect))
        x_0 = sample(predict, x_back, cells, moves=self.moves, rule=self.rule, draw=RowNoise(slots, x_back))
        pixels = tensor_to_pixels(self.generator.base.decode(x_0))
        pasted = (paste_back(new, old, mask, self.params.feather) for new, old, mask in zip(pixels, backgrounds, masks, strict=True))
        return [Pair(image, mask) for image, mask, _ in zip(pasted, masks, rows, strict=False)]

    def _predict_noise(self, x_t: Tensor, t: int, branch: Branch, mask: Tensor, *, number: int) -> Tensor:
        condition = self.conditions[branch][number].expand(len(x_t), -1, -1)
        return self.generator.predict_noise(x_t, t, branch, mask, condition)


class RowNoise:
    """Standard normal noise like a tensor (B, C, h, w), each row from a generator seeded by its plan row, on the CPU for every device."""

    def __init__(self, rows: Sequence[PlanRow], like: Tensor) -> None:
        self.generators = [torch.Generator().manual_seed(row.seed) for row in rows]
        self.shape, self.device = like.shape[1:], like.device

    def __call__(self) -> Tensor:
        """The next draw of every row."""
        return torch.stack([torch.randn(self.shape, generator=generator) for generator in self.generators]).to(self.device)


def moves(params: Synthesize, timestep_count: int) -> list[Transition]:
    """The sampler's walk over the timesteps."""
    times = timesteps(timestep_count, params.steps)
    if params.known_region == "fresh_resample":
        return resampling_transitions(times, jump_length=params.jump_length, resamplings=params.resamplings)
    return transitions(times)
