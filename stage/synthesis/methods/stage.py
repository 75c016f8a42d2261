"""STAGE itself: renders a batch of plan rows by Algorithm 1 and pastes the result back into the photographs."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stage.core.arrays import Pixels
from stage.core.device import autocast, dtype_of
from stage.core.errors import TrainingError
from stage.core.model_params import Prompts, StageMethod
from stage.core.synthesis_params import Paste, Synthesize
from stage.datasets.blending import paste, paste_change
from stage.datasets.pairs import Pair
from stage.datasets.windows import Window, cut, shown_pixels, window
from stage.model.base import pixels_to_tensor, tensor_to_pixels
from stage.model.checkpoints import Checkpoint, load_checkpoint
from stage.model.diffusion import SamplingRule, sample
from stage.model.masks import latent_mask
from stage.model.prompts import prompts
from stage.model.schedule import Branch, Transition, resampling_transitions, timesteps, transitions
from stage.synthesis.masked import MaskedPlanner
from stage.synthesis.method import Planner, Rendered
from stage.synthesis.methods.paste import pasted, reach_of
from stage.synthesis.methods.paste import planner as paste_planner
from stage.synthesis.placement import sample_mask
from stage.synthesis.recipe import Recipe
from stage.synthesis.rows import Identity, PlanRow
from stage.synthesis.source import Source
from stage.synthesis.transplant import placed


def planner(recipe: Recipe, catalog: pd.DataFrame, source: Source) -> Planner:
    """Plans a normal training image with a mask by `synthesize.mask_source` (IV-A); to begin with a defect, one moved as `paste` moves it."""
    is_begun = recipe.synthesize.start == "defect"
    planned = paste_planner(recipe, catalog, source) if is_begun else MaskedPlanner.of(recipe, catalog, source).row
    return StagePlanner(recipe.prompts, planned).row


def renderer(recipe: Recipe, device: str) -> "StageRenderer":
    """The trained networks of a category on a device."""
    assert recipe.base is not None, "METHODS says that it needs a checkpoint"
    assert recipe.checkpoint is not None
    checkpoint = load_checkpoint(recipe.base, recipe.checkpoint)
    return StageRenderer(
        checkpoint, recipe.guidance, recipe.synthesize, recipe.prompts, pasting=recipe.paste, image_size=recipe.image_size, device=device
    )


class StagePlanner(NamedTuple):
    """Plans the rows of a category: a row with a mask, and the prompt of its type."""

    templates: Prompts
    planned: Planner

    def row(self, identity: Identity) -> PlanRow:
        """The plan row."""
        prompt, _ = prompts(self.templates, identity.category, identity.defect)
        return self.planned(identity)._replace(prompt=prompt)


class View(NamedTuple):
    """What the network sees of a mask: the window around it, and the window's mask on the latent grid, (1, h, w)."""

    place: Window
    cells: Tensor


class Begun(NamedTuple):
    """A sample of `paste`, (H, W, 3), and the window of it that the network is shown, (s, s, 3)."""

    image: Pixels
    shown: Pixels


class StageRenderer:
    """Renders samples of one category; holds the network, the text conditions and the moves, which all batches share.

    `image_size` is the base's, in px; photographs may be larger. The checkpoint's networks are changed in place: moved to the
    device, the U-Net converted to the precision of `params`, and compiled if asked. `pasting`: how defects that it begins with are pasted.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        method: StageMethod,
        params: Synthesize,
        templates: Prompts,
        *,
        pasting: Paste,
        image_size: int,
        device: str,
    ) -> None:
        self.generator, self.params, self.method, self.pasting = checkpoint.generator.to(device), params, method, pasting
        self.image_size, self.device, self.dtype = image_size, device, dtype_of(params.precision, device)
        with torch.inference_mode():
            self.conditions = self.generator.conditions(templates)
        self.moves = moves(params, self.generator.base.schedule.timestep_count)
        self.rule = sampling_rule(method, params, checkpoint, device)
        _accelerate(self.generator.base.unet, self.dtype, compiled=params.compiled)

    @torch.inference_mode()
    def render(self, rows: Sequence[PlanRow], source: Source) -> list[Rendered]:
        """The samples of up to `batch` rows of one defect type.

        The network always gets a whole batch, filled up with the last row, because rounding depends on the batch's shape.
        """
        masks = [sample_mask(row, source, self.params.perlin) for row in rows]
        backgrounds = [source.backgrounds[row.background_sha256].image for row in rows]
        views = [self._view(mask) for mask in masks]
        seen = [cut(image, view.place, self.image_size) for image, view in zip(backgrounds, views, strict=True)]
        slots = [min(k, len(rows) - 1) for k in range(self.params.batch)]
        x_back = self._encoded(seen, slots)
        cells = torch.stack([views[k].cells for k in slots]).to(self.device)
        predict = partial(self._predict_noise, number=self.generator.types.index(rows[0].defect))
        begun = self._begun(rows, backgrounds, [view.place for view in views], source)
        start = self._encoded([one.shown for one in begun], slots) if begun else None
        draw = RowNoise([rows[k] for k in slots], x_back)
        x_0 = sample(predict, x_back, cells, moves=self.moves, rule=self.rule, draw=draw, start=start)
        if not torch.isfinite(x_0).all():  # as pixels they would be black and look like a defect
            raise TrainingError(
                f"Expected finite latents, found nan or inf in the batch of {rows[0].sample_id}. "
                "Set synthesize.precision to float32, or train again with a lower train.learning_rate."
            )
        pixels = tensor_to_pixels(self.generator.base.decode(x_0))
        if begun:
            return [self._changed(*one) for one in zip(pixels, rows, masks, views, begun, strict=False)]
        return [self._drawn(*one) for one in zip(pixels, backgrounds, masks, views, strict=False)]

    def _encoded(self, images: Sequence[Pixels], slots: Sequence[int]) -> Tensor:
        """Latents of a whole batch."""
        return self.generator.base.encode(pixels_to_tensor(np.stack([images[k] for k in slots])).to(self.device))

    def _begun(self, rows: Sequence[PlanRow], backgrounds: Sequence[Pixels], places: Sequence[Window], source: Source) -> list[Begun]:
        """The samples of `paste` to begin with; none where the sampler begins with noise."""
        if self.params.start == "noise":
            return []
        images = [pasted(placed(row, source), background, row, self.pasting) for row, background in zip(rows, backgrounds, strict=True)]
        return [Begun(image, cut(image, place, self.image_size)) for image, place in zip(images, places, strict=True)]

    def _drawn(self, synthetic: Pixels, background: Pixels, mask: Pixels, view: View) -> Rendered:
        """A sample that began with noise."""
        return Rendered(Pair(paste(synthetic, background, mask, view.place), mask), _shown(mask, view))

    def _changed(self, synthetic: Pixels, row: PlanRow, mask: Pixels, view: View, begun: Begun) -> Rendered:
        """A sample that began with a defect, whose seam outside the mask stays as it was pasted, or is changed with its surroundings."""
        redrawn = view.place if self.params.redraws_surroundings else None
        if redrawn or view.place.side > self.image_size:
            image = paste_change(begun.shown, synthetic, begun.image, mask, view.place, in_window=bool(redrawn))
        else:
            image = paste(synthetic, begun.image, mask, view.place)
        return Rendered(Pair(image, mask), _shown(mask, view), reach=reach_of(row, self.pasting), redrawn=redrawn)

    def _view(self, mask: NDArray[np.uint8]) -> View:
        place = window(mask, self.method.crop, self.image_size)
        return View(place, latent_mask(cut(mask, place, self.image_size), self.generator.base.factor, self.method.mask_reduction))

    def _predict_noise(self, x_t: Tensor, t: int, branch: Branch, mask: Tensor, *, number: int) -> Tensor:
        condition = self.conditions[branch][number].expand(len(x_t), -1, -1)
        # A compiled network would be compiled again for every new int, not for a tensor.
        when = torch.tensor(t) if self.params.compiled else t
        with autocast(self.device, self.dtype):
            return self.generator.predict_noise(x_t, when, branch, mask, condition)


def _shown(mask: Pixels, view: View) -> NDArray[np.bool_]:
    return shown_pixels(mask, view.place, view.cells[0].numpy())


class RowNoise:
    """Standard normal noise in the shape of `like` (B, C, h, w); each row has a generator on the CPU, seeded by its plan row."""

    def __init__(self, rows: Sequence[PlanRow], like: Tensor) -> None:
        self.generators = [torch.Generator().manual_seed(row.seed) for row in rows]
        self.shape, self.device = like.shape[1:], like.device

    def __call__(self) -> Tensor:
        """The next draw of every row."""
        return torch.stack([torch.randn(self.shape, generator=generator) for generator in self.generators]).to(self.device)


def moves(params: Synthesize, timestep_count: int) -> list[Transition]:
    """The sampler's transitions between timesteps."""
    times = timesteps(params.first_timestep(timestep_count), params.steps, params.spacing)
    if params.known_region == "fresh_resample":
        return resampling_transitions(times, jump_length=params.jump_length, resamplings=params.resamplings)
    return transitions(times)


def sampling_rule(method: StageMethod, params: Synthesize, checkpoint: Checkpoint, device: str) -> SamplingRule:
    """The parameters of Algorithm 1."""
    low, high = (bound.to(device) for bound in checkpoint.bounds)
    return SamplingRule(
        schedule=checkpoint.generator.base.schedule,
        graded_intervals=params.graded_intervals,
        alignment_threshold=method.alignment_threshold if method.alignment == "scheduled" else None,
        known_region=params.known_region,
        composition=params.composition,
        mask_noise=params.mask_noise,
        last_step=params.last_step,
        x_0_bounds=(low, high) if params.clamp else None,
    )


def _accelerate(unet: nn.Module, dtype: torch.dtype, *, compiled: bool) -> None:
    """Convert the network's weights to `dtype`, as autocast would otherwise do at every call; compile it if asked."""
    unet.to(dtype)
    if compiled:
        unet.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # torch documents it
        unet.compile()
