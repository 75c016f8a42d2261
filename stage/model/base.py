"""The frozen latent diffusion model, loaded from a folder in diffusers' layout.

Shapes: B batch, C latent channels, h w latent size, H W image size, L text length, D text channels.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from stage.core.errors import ConfigError
from stage.core.model_params import BaseModelSource
from stage.model.base_parts import load_part
from stage.model.codec import PatchCodec
from stage.model.diffusion import noise_from_velocity, of_unit_variance
from stage.model.files import INDEX, read_index
from stage.model.prompts import token_ids
from stage.model.schedule import NoiseSchedule

Prediction = Literal["epsilon", "v_prediction"]
# What a U-Net may predict, by its base's codec: v_prediction only in a base trained here (docs/decisions/0005).
PREDICTIONS: dict[str, tuple[Prediction, ...]] = {"AutoencoderKL": ("epsilon",), "PatchCodec": ("epsilon", "v_prediction")}


@dataclass(frozen=True)
class Base:
    """U-Net, text encoder, tokenizer and image codec in evaluation mode, and the schedule they were trained with."""

    unet: UNet2DConditionModel
    text_encoder: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    codec: AutoencoderKL | PatchCodec
    schedule: NoiseSchedule
    prediction: Prediction

    @property
    def channels(self) -> int:
        """The number of latent channels, C."""
        return int(self.unet.config["in_channels"])

    @property
    def factor(self) -> int:
        """Image pixels along one latent cell."""
        config = self.codec.config
        return config["patch"] if isinstance(self.codec, PatchCodec) else 2 ** (len(config["block_out_channels"]) - 1)

    @property
    def multiple(self) -> int:
        """Image sizes must be multiples of this, because the U-Net halves the latent grid between its levels."""
        return self.factor * 2 ** (len(self.unet.config["block_out_channels"]) - 1)

    def modules(self) -> tuple[nn.Module, ...]:
        """The three networks."""
        return self.unet, self.text_encoder, self.codec

    def to(self, device: str) -> "Base":
        """Move the networks; returns self."""
        for module in self.modules():
            module.to(device)
        return self

    def freeze(self) -> "Base":
        """Evaluation mode, no gradients; returns self."""
        for module in self.modules():
            module.eval().requires_grad_(False)
        return self

    def encode(self, images: Tensor) -> Tensor:
        """Latents (B, C, h, w) of images (B, 3, H, W) in [-1, 1]; the distribution's mode, so that they are deterministic."""
        encoded = self.codec.encode(images).latent_dist  # pyright: ignore[reportAttributeAccessIssue]  # no tuple by default
        return encoded.mode() * self.codec.config["scaling_factor"]

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, 3, H, W), approximately in [-1, 1], of latents (B, C, h, w)."""
        decoded = self.codec.decode(latents / self.codec.config["scaling_factor"])
        return decoded.sample  # pyright: ignore[reportAttributeAccessIssue]  # as in `encode`

    def predict_noise(self, x_t: Tensor, t: Tensor | int, condition: Tensor) -> Tensor:
        """Noise estimate (B, C, h, w) for x_t at t, an int or (B,), under text conditions (B, L, D). One network call."""
        if self.prediction == "epsilon":
            return self.unet(x_t, t, condition).sample
        deviation = self.deviation
        shown = of_unit_variance(x_t, t, self.schedule, deviation)
        return noise_from_velocity(self.unet(shown, t, condition).sample, x_t, t, self.schedule, deviation)

    @property
    def deviation(self) -> Tensor | float:
        """The standard deviation of each latent channel, (C, 1, 1), that preconditions the network; 1 if it is not preconditioned."""
        return self.codec.get_buffer("deviation")[:, None, None].to(self.unet.device) if self.is_preconditioned else 1.0

    @cached_property
    def is_preconditioned(self) -> bool:
        """Whether the codec has deviations other than 1; cached, because each check would wait for the GPU."""
        return isinstance(self.codec, PatchCodec) and bool((self.codec.deviation != 1).any())

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Text conditions (B, L, D) of prompts. Raises ConfigError if one has too many tokens."""
        return self.text_encoder(torch.tensor(self.token_ids(prompts)).to(self.text_encoder.device))[0]

    def token_ids(self, prompts: Sequence[str]) -> list[list[int]]:
        """The numbers of each prompt's tokens, padded to L. Raises ConfigError as `embed`."""
        length = min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)
        return token_ids(self.tokenizer, prompts, length)

    def save(self, folder: Path) -> None:
        """Write the folder that `load_base` reads."""
        scheduler = scheduler_of(self.schedule, self.prediction)
        parts = {
            "unet": self.unet,
            "vae": self.codec,
            "text_encoder": self.text_encoder,
            "tokenizer": self.tokenizer,
            "scheduler": scheduler,
        }
        for name, part in parts.items():
            part.save_pretrained(folder / name)
        index = {name: [type(part).__module__.split(".")[0], type(part).__name__] for name, part in parts.items()}
        (folder / INDEX).write_text(json.dumps({"_class_name": "StableDiffusionPipeline", **index}, indent=2))


def check_fit(base: Base, params: BaseModelSource) -> None:
    """Raise ConfigError if the base's timesteps differ from the settings', or if it does not take their image size."""
    if (found := base.schedule.timestep_count) != params.timestep_count:
        raise ConfigError(
            f"Expected a base of {params.timestep_count} timesteps (base.timestep_count in params.yaml), found {found}. Correct the number."
        )
    check_image_size(params.image_size, base.multiple)


def check_image_size(size: int, multiple: int) -> None:
    """Raise ConfigError unless the image size (px) is a multiple of the base's `multiple`."""
    if size % multiple:
        raise ConfigError(
            f"Expected base.image_size to be a multiple of the base's {multiple} px, found {size} in params.yaml. Change one of them."
        )


def scheduler_config(timestep_count: int, prediction: Prediction = "epsilon") -> dict[str, Any]:
    """The schedule of LDM text-to-image and of Stable Diffusion 1.x: betas linear in their square root."""
    return {
        "num_train_timesteps": timestep_count,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "prediction_type": prediction,
    }


def noise_schedule(scheduler: DDPMScheduler) -> NoiseSchedule:
    """The alpha_bars of a scheduler."""
    return NoiseSchedule(scheduler.alphas_cumprod.double())


def scheduler_of(schedule: NoiseSchedule, prediction: Prediction) -> DDPMScheduler:
    """A scheduler with these alpha_bars: LDM's own by name, others by their betas in float32 precision."""
    config = scheduler_config(schedule.timestep_count, prediction)
    usual = DDPMScheduler(**config)
    if torch.equal(noise_schedule(usual).alpha_bars, schedule.alpha_bars):
        return usual
    before = torch.cat([torch.ones_like(schedule.alpha_bars[:1]), schedule.alpha_bars[:-1]])
    return DDPMScheduler(**config, trained_betas=(1 - schedule.alpha_bars / before).tolist())


def read_schedule(folder: Path, classes: dict[str, str]) -> tuple[NoiseSchedule, Prediction]:
    """The schedule that a base's U-Net was trained with, and what it predicts; `classes` as from `read_index`.

    Raises ConfigError if it predicts anything but noise (or velocity, in a base trained here), or if nothing of the image is
    left at the last timestep (zero terminal SNR), where a noise estimate implies no x_0.
    """
    scheduler = load_part(folder, "scheduler", classes["scheduler"])
    allowed = PREDICTIONS[classes.get("vqvae") or classes["vae"]]
    place = folder / "scheduler"
    if (kind := scheduler.config["prediction_type"]) not in allowed:
        raise ConfigError(
            f"Expected a base that predicts {' or '.join(allowed)}, found prediction_type {kind!r} in {place}. Choose another base.source."
        )
    schedule = noise_schedule(scheduler)
    if not 0 < schedule.alpha_bars.min() <= schedule.alpha_bars.max() < 1:
        raise ConfigError(
            f"Expected betas that leave something of the image at every timestep, found alpha_bars from {schedule.alpha_bars.min():.3g} "
            f"to {schedule.alpha_bars.max():.3g} in {place}. Choose another base.source."
        )
    return schedule, kind


def load_base(folder: Path) -> Base:
    """A base from a folder in diffusers' layout: frozen, in evaluation mode, on the CPU, in float32.

    The weights come from safetensors, or else from pickles of tensors. Raises a ConfigError that names what is missing,
    damaged or of another class.
    """
    classes = read_index(folder)
    schedule, prediction = read_schedule(folder, classes)
    unet, codec, text_encoder, tokenizer = [load_part(folder, part, name) for part, name in classes.items() if part != "scheduler"]
    base = Base(unet, text_encoder, tokenizer, codec, schedule, prediction)
    check_parts(base, folder)
    return base.freeze()


def check_parts(base: Base, folder: Path) -> None:
    """Raise ConfigError if the parts do not fit together.

    Inpainting U-Nets take more channels than the autoencoder has, SDXL's takes the text of two encoders, and some predict a
    variance, too.
    """
    codec, unet = base.codec.config, base.unet.config
    channels = 3 * codec["patch"] ** 2 if isinstance(base.codec, PatchCodec) else codec["latent_channels"]
    width = base.text_encoder.config.hidden_size
    found = unet["in_channels"], unet["out_channels"], unet["cross_attention_dim"]
    if found != (channels, channels, width):
        raise ConfigError(
            f"Expected a U-Net from and to {channels} latent channels under text of width {width}, found one from {found[0]} to {found[1]} "
            f"under width {found[2]} in {folder / 'unet'}. "
            "Choose an LDM text-to-image or Stable Diffusion 1.x checkpoint, not one for inpainting, as base.source."
        )
    rows = len(base.text_encoder.get_input_embeddings().weight)  # pyright: ignore[reportArgumentType]  # an nn.Embedding
    if (words := len(base.tokenizer)) > rows:
        raise ConfigError(
            f"Expected a tokenizer of at most {rows} words, as many as the text encoder has vectors for, found {words} in "
            f"{folder / 'tokenizer'}. Choose a base.source whose tokenizer and text encoder are of one checkpoint."
        )


def pixels_to_tensor(images: Any) -> Tensor:
    """(N, H, W, 3) uint8 array to (N, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(images).movedim(-1, 1).float() / 127.5 - 1


def tensor_to_pixels(images: Tensor) -> Any:
    """(N, 3, H, W) in [-1, 1] to (N, H, W, 3) uint8, clipped."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().movedim(1, -1).byte().cpu().numpy()
