"""Trains a small base from scratch on the data at hand, in place of a hub checkpoint (not in the paper).

Shapes: N images, B batch, C latent channels, h w latent size, H W image size; masks (B, 1, ., .) in {0, 1}, 1 = defect.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from stage.core.at_once import has_spare_threads
from stage.core.device import device
from stage.core.digests import derived_seed
from stage.core.errors import ConfigError
from stage.core.fitting import Fit, Part
from stage.core.model_params import Crop, Pretrain
from stage.core.params import Execution
from stage.datasets.examples import Pictures
from stage.model.base import Base, check_image_size, load_base, noise_schedule, pixels_to_tensor, scheduler_config
from stage.model.codec import PatchCodec
from stage.model.examples import Examples, through_windows
from stage.model.pretraining_loss import PretrainingLoss
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
    at_once = has_spare_threads(base.unet.device.type)
    fit = Fitting("pretrain", params.iterations, params.learning_rate, params.weight_average, state, execution.save_every_s, at_once)
    return fitted(base, PretrainingLoss(base, examples, params, seed).halves, fit)


class Fitting(NamedTuple):
    """How a small base is trained: `weight_average` is the decay of the average that is kept, `state` the file of an unfinished training.

    `at_once` as in `Fit`: the loss has two parts.
    """

    label: str
    iterations: int
    learning_rate: float
    weight_average: float
    state: Path
    save_every_s: float
    at_once: bool = False


def fitted(base: Base, parts: Callable[[int], Sequence[Sequence[Part]]], how: Fitting) -> tuple[Base, pd.DataFrame]:
    """A base whose U-Net and text encoder are trained by a loss, frozen and on the CPU, and its loss curve.

    The loss of an iteration is one group of parts, as `Fit.run_in_parts` has it.
    """
    networks = nn.ModuleDict({"unet": base.unet, "text_encoder": base.text_encoder}).train()
    average = WeightAverage(networks, how.weight_average)
    optimizer = torch.optim.AdamW(networks.parameters(), lr=how.learning_rate)
    modules = {"networks": networks, "average": average.average}
    fit = Fit(how.label, modules, optimizer, how.iterations, how.state, how.save_every_s, average.update, at_once=how.at_once)
    curve = fit.run_in_parts(parts)
    networks.load_state_dict(average.average.state_dict())
    return base.to("cpu").freeze(), curve


def untrained(examples: Examples, params: Pretrain, timestep_count: int) -> Base:
    """The small base that a training on the examples begins with."""
    begins_anew = params.start == "none"
    return small_base(
        examples.images if begins_anew else examples.images[:1],  # of a codec that `begun` replaces, only the form matters
        examples.texts,
        patch=params.patch,
        widths=params.widths,
        text_width=params.text_width,
        timestep_count=timestep_count,
        preconditioned=params.preconditioned,
    )


def begun(base: Base, given: Base, place: str) -> Base:
    """An untrained base with the U-Net and the codec of a given one; raises ConfigError if their forms differ.

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
