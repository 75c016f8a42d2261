"""Untrained networks of the two sizes that count, the demo's and LDM text-to-image's, and batches for them to sample.

Speed does not depend on what the weights are. B batch, C latent channels, h w latent size, L text length, D text channels.
"""

from collections import abc
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from stage.core.device import autocast
from stage.core.params import Params, load_params
from stage.model.base import Base
from stage.model.checkpoints import Checkpoint
from stage.model.diffusion import Draw, PredictNoise, sample
from stage.model.examples import Examples
from stage.model.generator import Generator
from stage.model.pretraining import untrained
from stage.model.schedule import branch_of
from stage.synthesis.methods.stage import RowNoise, StageRenderer

# CompVis/ldm-text2im-large-256, unet/config.json: 0.87 billion parameters.
LDM_UNET: dict[str, Any] = {
    "sample_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
    "cross_attention_dim": 1280,
    "attention_head_dim": 8,
}
LDM_TEXT = (77, 1280)  # L, D
RELEASED_WIDTHS = (64, 256, 512, 256, 64)  # of the released code's adapters
CATEGORY, TYPES = "part", ("crack", "spot")


@dataclass(frozen=True)
class Seeded:
    """What noise is drawn for: the part of a plan row that decides it."""

    seed: int


@dataclass(frozen=True)
class Work:
    """One batch that a renderer is to sample: backgrounds (B, C, h, w), masks (B, 1, h, w)."""

    renderer: StageRenderer
    x_back: Tensor
    mask: Tensor

    def sampled(self) -> Tensor:
        """The product's sampling loop, without images."""
        draw = RowNoise([Seeded(k) for k in range(len(self.x_back))], self.x_back)
        return self.walked(partial(self.renderer._predict_noise, number=0), draw)

    def idle(self) -> Tensor:
        """The same loop around a network that is for nothing."""
        draw = RowNoise([Seeded(k) for k in range(len(self.x_back))], self.x_back)
        return self.walked(lambda *_: self.x_back, draw)

    @torch.inference_mode()
    def walked(self, predict: PredictNoise, draw: Draw) -> Tensor:
        """`sample` with the renderer's moves and rule."""
        return sample(predict, self.x_back, self.mask, moves=self.renderer.moves, rule=self.renderer.rule, draw=draw)

    @torch.inference_mode()
    def bare(self) -> Tensor:
        """The forwards of U-Net and adapters that it cannot do without, and nothing else."""
        generator, eps = self.renderer.generator, self.x_back
        condition = self.renderer.conditions["anomaly_aware"][0].expand(len(eps), -1, -1)
        with autocast(self.renderer.device, self.renderer.dtype):
            for move in self.renderer.moves:
                # As in the renderer: a compiled network takes every new int for a new program.
                t = torch.tensor(move.t) if self.renderer.params.compiled else move.t
                eps = generator.base.unet(self.x_back, t, condition).sample.float()
                eps = generator.adapters[branch_of(move, self.renderer.rule.graded_intervals)](eps, self.mask)
        return eps


def work(generator: Generator, params: Params, *, side: int, device: str = "cpu", text: tuple[int, int] | None = None) -> Work:
    """A batch of noise (synthesize.batch, C, side, side) with square masks; `text` (L, D) replaces the conditions by noise of that shape."""
    random = torch.Generator().manual_seed(0)
    channels, batch, renderer = generator.base.channels, params.synthesize.batch, renderer_of(generator, params, device)
    if text:
        noise = torch.randn(len(TYPES), *text, generator=random).to(device)
        renderer.conditions = dict.fromkeys(renderer.conditions, noise)
    mask = torch.zeros(batch, 1, side, side)
    mask[..., side // 4 : side // 2, side // 4 : side // 2] = 1
    return Work(renderer, torch.randn(batch, channels, side, side, generator=random).to(device), mask.to(device))


def renderer_of(generator: Generator, params: Params, device: str) -> StageRenderer:
    """The product's renderer of an untrained network; latents are held to [-3, 3]."""
    bound = torch.full((generator.base.channels, 1, 1), 3.0)
    checkpoint = Checkpoint(generator, (-bound, bound), digest="")
    return StageRenderer(
        checkpoint,
        params.method,
        params.synthesize,
        params.base.prompts,
        pasting=params.paste,
        image_size=params.base.image_size,
        device=device,
    )


def ldm_work(params: Params, unet: UNet2DConditionModel, device: str) -> Work:
    """A batch for a network of LDM text-to-image's size."""
    return work(ldm_generator(params, unet), params, side=LDM_UNET["sample_size"], device=device, text=LDM_TEXT)


def with_values(params: Params, **sections: Mapping[str, object]) -> Params:
    """The parameters with some values of some sections changed."""
    return params.model_copy(update={name: getattr(params, name).model_copy(update=values) for name, values in sections.items()})


def default_params() -> Params:
    """params.yaml's values, of a base from scratch and samples from noise: the whole way, in 50 steps."""
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    noise = {
        "train": {"timesteps_below": 1000, "hidden_share": 0.5},
        "synthesize": {"start": "noise", "known_region": "posterior", "steps": 50},
    }
    return with_values(params, pretrain={"start": "none"}, **noise)


def demo_generator(params: Params, types: tuple[str, ...] = TYPES) -> Generator:
    """The network that params.yaml describes, untrained."""
    with seeded():
        return finished(demo_base(params, types), types, params, params.train.adapter_widths, residual=params.train.residual)


def ldm_generator(params: Params, unet: UNet2DConditionModel) -> Generator:
    """The LDM's U-Net with the released code's adapters, and a text encoder of its width that is small."""
    with seeded():
        small = demo_base(with_values(params, pretrain={"text_width": LDM_TEXT[1]}), TYPES)
        return finished(replace(small, unet=unet, prediction="epsilon"), TYPES, params, RELEASED_WIDTHS, residual=False)


def demo_base(params: Params, types: tuple[str, ...]) -> Base:
    """The base of params.yaml, fitted to noise."""
    size = params.base.image_size
    images = np.random.default_rng(0).integers(0, 256, (len(types), size, size, 3), dtype=np.uint8)
    texts = [f"{CATEGORY} {kind}" for kind in types]
    examples = Examples(images, np.zeros(images.shape[:3], np.uint8), texts, [None] * len(types))
    return untrained(examples, params.pretrain, params.base.timestep_count)


def ldm_unet(device: str) -> UNet2DConditionModel:
    """The U-Net of LDM text-to-image with random weights; `meta` has shapes alone."""
    with seeded(), torch.device(device):
        return UNet2DConditionModel(**LDM_UNET)


def finished(base: Base, types: tuple[str, ...], params: Params, widths: tuple[int, ...], *, residual: bool) -> Generator:
    """As a checkpoint gives it: in evaluation mode, without gradients."""
    generator = Generator(base, CATEGORY, types, params.method.token_count, widths, residual=residual)
    return generator.eval().requires_grad_(False)


@contextmanager
def seeded() -> abc.Generator[None, None, None]:
    """The same weights every time, and the global generator left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield
