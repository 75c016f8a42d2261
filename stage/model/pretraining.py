"""Trains a small base from scratch on the data at hand, in place of a hub checkpoint (not in the paper).

Shapes: N images, B batch, C latent channels, h w latent size, H W image size; masks (B, 1, ., .) in {0, 1}, 1 = defect.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel

from stage.core.device import device
from stage.core.digests import derived_seed
from stage.core.errors import ConfigError
from stage.core.fitting import Fit, Losses, Part
from stage.core.model_params import Crop, Pretrain
from stage.core.params import Execution
from stage.datasets.examples import Pictures
from stage.datasets.windows import TURNS, turn
from stage.model.base import Base, check_image_size, load_base, noise_schedule, pixels_to_tensor, scheduler_config
from stage.model.codec import PatchCodec
from stage.model.diffusion import noised, of_unit_variance, velocity
from stage.model.examples import Examples, through_windows
from stage.model.masks import area_balance, latent_mask
from stage.model.prompts import TEXT_LENGTH
from stage.model.tokens import END, START, tokenizer_of


def pretrain(
    examples: Examples,
    params: Pretrain,
    *,
    crop: Crop,
    image_size: int,
    timestep_count: int,
    seed: int,
    state: Path,
    execution: Execution,
) -> tuple[Base, pd.DataFrame]:
    """A base of `image_size` px, trained on the examples through their windows, and its loss curve.

    An unfinished training in `state` is continued.
    """
    check_image_size(image_size, params.patch * 2 ** (len(params.widths) - 1))
    examples = through_windows(examples, crop, image_size, np.random.default_rng(derived_seed(seed, "windows")))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        base = untrained(examples, params, timestep_count)
    base = (base if params.start == "none" else begun(base, load_base(Path(params.start)), params.start)).to(device(execution.device))
    fit = Fitting("pretrain", params.iterations, params.learning_rate, params.weight_average, state, execution.save_every_s)
    return fitted(base, PretrainingLoss(base, examples, params, seed).halves, fit)


class Fitting(NamedTuple):
    """How a small base is trained: `weight_average` is the decay of the average that is kept, `state` the file of an unfinished training."""

    label: str
    iterations: int
    learning_rate: float
    weight_average: float
    state: Path
    save_every_s: float


def fitted(base: Base, parts: Callable[[int], Sequence[Sequence[Part]]], how: Fitting) -> tuple[Base, pd.DataFrame]:
    """A base whose U-Net and text encoder are trained by a loss, frozen and on the CPU, and its loss curve.

    The loss of an iteration is one group of parts, as `Fit.run_in_parts` has it.
    """
    networks = nn.ModuleDict({"unet": base.unet, "text_encoder": base.text_encoder}).train()
    average = WeightAverage(networks, how.weight_average)
    optimizer = torch.optim.AdamW(networks.parameters(), lr=how.learning_rate)
    modules = {"networks": networks, "average": average.average}
    at_once = base.unet.device.type == "cpu" and torch.get_num_threads() > 1
    fit = Fit(how.label, modules, optimizer, how.iterations, how.state, how.save_every_s, average.update, at_once=at_once)
    curve = fit.run_in_parts(parts)
    networks.load_state_dict(average.average.state_dict())
    return base.to("cpu").freeze(), curve


def untrained(examples: Examples, params: Pretrain, timestep_count: int) -> Base:
    """The small base that a training on the examples begins with."""
    return small_base(
        examples.images,
        examples.texts,
        patch=params.patch,
        widths=params.widths,
        text_width=params.text_width,
        timestep_count=timestep_count,
        preconditioned=params.preconditioned,
    )


def begun(base: Base, given: Base, place: str) -> Base:
    """An untrained base with the U-Net and the codec of a given one; raises ConfigError if that is of another form.

    The prompts are those of the data at hand, so tokenizer and text encoder begin anew.
    """
    mine, theirs = (
        {name: one.unet.config[name] for name in ("in_channels", "cross_attention_dim")}
        | {"block_out_channels": list(one.unet.config["block_out_channels"])}  # a tuple, or from a file a list
        | {"prediction": one.prediction, "timesteps": one.schedule.timestep_count, "preconditioned": one.is_preconditioned}
        for one in (base, given)
    )
    if mine != theirs:
        differing = ", ".join(f"{name} {theirs[name]}, not {mine[name]}" for name in mine if mine[name] != theirs[name])
        raise ConfigError(
            f"Expected a base of the form that pretrain and base.timestep_count in params.yaml ask for in {place}, found {differing}. "
            "Change patch, widths, text_width, preconditioned or timestep_count, or pretrain.start."
        )
    given.unet.requires_grad_(True)
    return replace(base, unet=given.unet, codec=given.codec)


def small_base(
    images: Pictures,
    texts: Sequence[str],
    *,
    patch: int,
    widths: tuple[int, ...],
    text_width: int,
    timestep_count: int,
    preconditioned: bool,
) -> Base:
    """An untrained base of diffusers' and transformers' own classes; its codec and vocabulary are fitted to images and prompts.

    It predicts velocity. A U-Net has no path that passes 48 channels through unchanged, so as a predictor of noise it
    spends its training on copying its input, and colours come out wrong (docs/decisions/0004).
    """
    tokenizer = tokenizer_of(texts, TEXT_LENGTH)
    text_config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=text_width,
        intermediate_size=2 * text_width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TEXT_LENGTH,
        bos_token_id=START,
        eos_token_id=END,
        pad_token_id=END,
    )
    levels = len(widths)  # text attention at the coarsest only: at full size it costs as much as all the rest
    unet = UNet2DConditionModel(
        in_channels=3 * patch**2,
        out_channels=3 * patch**2,
        block_out_channels=widths,
        down_block_types=("DownBlock2D",) * (levels - 1) + ("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",) + ("UpBlock2D",) * (levels - 1),
        cross_attention_dim=text_width,
        attention_head_dim=4,
        layers_per_block=1,
        norm_num_groups=16,
    )
    codec = PatchCodec.fit(pixels_to_tensor(images), patch, preconditioned=preconditioned)
    schedule = noise_schedule(DDPMScheduler(**scheduler_config(timestep_count)))
    return Base(unet, CLIPTextModel(text_config), tokenizer, codec, schedule, "v_prediction")


class Batch(NamedTuple):
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
        self.number = {text: i for i, text in enumerate(examples.texts)}

    def __call__(self, iteration: int) -> Losses:
        """A pure function of the weights and the iteration."""
        return self._share(self._draw(iteration))

    def halves(self, iteration: int) -> list[list[Part]]:
        """The same as a sum over the halves of the batch, which may be computed at once."""
        halves = zip(*(field.chunk(2) for field in self._draw(iteration)), strict=True)
        return [[partial(self._share, Batch(*half)) for half in halves]]

    def _share(self, rows: Batch) -> Losses:
        """What some rows of a batch add to its mean."""
        conditions = self.base.embed(self.examples.texts)[rows.texts]
        error = velocity_error(self.base, rows.latents, rows.t, rows.noise, conditions)
        mean = (area_balance(rows.masks, self.params.balance_limit) * error).mean()
        return {"loss": mean * len(rows.t) / self.params.batch}

    def _draw(self, iteration: int) -> Batch:
        generator = torch.Generator().manual_seed(derived_seed(self.seed, iteration))
        latents, masks, texts = self._rows(generator)
        t = torch.randint(self.base.schedule.timestep_count, (len(latents),), generator=generator)
        return Batch(latents, masks, t, torch.randn(latents.shape, generator=generator).to(latents.device), texts)

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


class WeightAverage:
    """A running average of a module's weights; not Explicit Mask Alignment. `average` is kept in the end."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.module, self.average, self.decay = module, copy.deepcopy(module).requires_grad_(False), decay

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the module's current weights."""
        pairs = zip(self.average.parameters(), self.module.parameters(), strict=True)
        for kept, new in pairs:
            kept.lerp_(new, 1 - self.decay)


def pick(rows: NDArray[np.int64], count: int, generator: torch.Generator) -> Tensor:
    """`count` of `rows`, drawn with replacement; none if `rows` is empty."""
    found = torch.from_numpy(rows)
    return found[torch.randint(len(found), (count,), generator=generator)] if len(found) else found


def turned(examples: Examples, rows: Tensor, generator: torch.Generator | None) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images and masks of the rows, each under a random one of the eight quarter turns and flips; unchanged without a generator."""
    turns = torch.randint(TURNS, (len(rows),), generator=generator) if generator else torch.zeros(len(rows), dtype=torch.int64)
    images = np.stack([turn(examples.images[int(i)], int(k)) for i, k in zip(rows, turns, strict=True)])
    return images, np.stack([turn(examples.masks[int(i)], int(k)) for i, k in zip(rows, turns, strict=True)])
