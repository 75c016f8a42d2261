"""The frozen latent diffusion model (METHOD 2), loaded from a folder in diffusers' layout, whoever trained it.

Shapes: B batch, C latent channels, h w latent size, H W image size, L text length, D text channels.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertModel
from diffusers.utils.logging import disable_progress_bar as disable_model_bars
from safetensors import SafetensorError
from torch import Tensor, nn
from transformers import BertTokenizer, CLIPTextModel, CLIPTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from stage.codec import PatchCodec
from stage.diffusion import noise_from_velocity
from stage.params import ConfigError
from stage.schedule import NoiseSchedule

# Which folder plays which part, by the names that diffusers' pipelines use, and which classes may be built from it.
PARTS: dict[str, dict[str, Any]] = {
    "unet": {"UNet2DConditionModel": UNet2DConditionModel},
    "vae": {"AutoencoderKL": AutoencoderKL, "PatchCodec": PatchCodec},
    "vqvae": {"AutoencoderKL": AutoencoderKL},
    "text_encoder": {"CLIPTextModel": CLIPTextModel},
    "bert": {"LDMBertModel": LDMBertModel},
    "tokenizer": {name: cls for cls in (CLIPTokenizer, BertTokenizer) for name in (cls.__name__, cls.__name__ + "Fast")},
    "scheduler": dict.fromkeys(("DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "LMSDiscreteScheduler"), DDPMScheduler),
}
# Nine short bars a run say nothing that someone waits for.
disable_progress_bar()
disable_model_bars()
INDEX = "model_index.json"
Prediction = Literal["epsilon", "v_prediction"]


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
        """C."""
        return int(self.unet.config["in_channels"])

    @property
    def factor(self) -> int:
        """Image pixels along one latent cell."""
        config = self.codec.config
        return config["patch"] if isinstance(self.codec, PatchCodec) else 2 ** (len(config["block_out_channels"]) - 1)

    @property
    def multiple(self) -> int:
        """Image sizes are multiples of this: the latent grid is halved between the U-Net's levels."""
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
        """Latents (B, C, h, w) of images (B, 3, H, W) in [-1, 1]; the mode, so that they are deterministic."""
        return self.codec.encode(images).latent_dist.mode() * self.codec.config["scaling_factor"]

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, 3, H, W), about [-1, 1], of latents."""
        return self.codec.decode(latents / self.codec.config["scaling_factor"]).sample

    def predict_noise(self, x_t: Tensor, t: Tensor | int, condition: Tensor) -> Tensor:
        """Noise estimate (B, C, h, w) for x_t at t, an int or (B,), under text conditions (B, L, D). One network call."""
        output = self.unet(x_t, t, condition).sample
        return output if self.prediction == "epsilon" else noise_from_velocity(output, x_t, t, self.schedule)

    def embed(self, prompts: Sequence[str]) -> Tensor:
        """Text conditions (B, L, D)."""
        length = min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings)
        tokens = self.tokenizer(list(prompts), padding="max_length", max_length=length, return_tensors="pt")
        if (found := tokens.input_ids.shape[1]) > length:
            raise ConfigError(
                f"Expected prompts of at most {length} tokens, the base's limit, found {found}. "
                "Lower method.token_count or shorten base.prompts in params.yaml."
            )
        return self.text_encoder(tokens.input_ids.to(self.text_encoder.device))[0]

    def save(self, folder: Path) -> None:
        """Write the folder that `load_base` reads."""
        scheduler = DDPMScheduler(**scheduler_config(self.schedule.timestep_count, self.prediction))
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


def check_image_size(size: int, multiple: int) -> None:
    """Refuse images (size, size) that a base's grids do not divide."""
    if size % multiple:
        raise ConfigError(
            f"Expected prepare.image_size to be a multiple of the base's {multiple} px, found {size} in params.yaml. Change one of them."
        )


def scheduler_config(timestep_count: int, prediction: Prediction = "epsilon") -> dict[str, Any]:
    """The schedule of LDM text-to-image and of Stable Diffusion 1.x: betas linear in their square root (METHOD 2)."""
    return {
        "num_train_timesteps": timestep_count,
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "clip_sample": False,
        "prediction_type": prediction,
    }


def noise_schedule(scheduler: DDPMScheduler) -> NoiseSchedule:
    """Its alpha_bars."""
    return NoiseSchedule(scheduler.alphas_cumprod.double())


def prediction_of(scheduler: DDPMScheduler) -> Prediction:
    """What the network was trained to predict; anything but noise, or the velocity that is noise in other words, is refused."""
    if (kind := scheduler.config["prediction_type"]) not in get_args(Prediction):
        raise ConfigError(
            f"Expected a base that predicts epsilon or v_prediction, found prediction_type {kind!r} in its scheduler. "
            "Choose another base.source."
        )
    return kind


def load_base(folder: Path) -> Base:
    """A base in diffusers' layout, frozen, in evaluation mode, on the CPU; weights from safetensors only.

    Raises ConfigError naming what is missing or of another class.
    """
    if not (folder / INDEX).is_file():
        raise ConfigError(f"Expected a base in diffusers' layout, found no {INDEX} in {folder}. Point base.source at such a folder.")
    try:
        index = json.loads((folder / INDEX).read_text())
    except ValueError as error:
        raise ConfigError(f"Expected JSON in {folder / INDEX}, found: {error}. Fetch the checkpoint again.") from None
    codec = _load(folder, index, "vqvae" if "vqvae" in index else "vae")
    text_encoder = _load(folder, index, "bert" if "bert" in index else "text_encoder")
    scheduler = _load(folder, index, "scheduler")
    unet, tokenizer = _load(folder, index, "unet"), _load(folder, index, "tokenizer")
    base = Base(unet, text_encoder, tokenizer, codec, noise_schedule(scheduler), prediction_of(scheduler))
    _check_fit(base, folder)
    return base.freeze()


def _check_fit(base: Base, folder: Path) -> None:
    """Inpainting networks take more channels than their autoencoder gives, SDXL's a second text encoder's too."""
    config = base.codec.config
    channels = 3 * config["patch"] ** 2 if isinstance(base.codec, PatchCodec) else config["latent_channels"]
    expected = channels, base.text_encoder.config.hidden_size
    if (found := (base.channels, base.unet.config["cross_attention_dim"])) != expected:
        raise ConfigError(
            f"Expected a U-Net for {expected[0]} latent channels and text of width {expected[1]}, found one for {found[0]} and {found[1]} "
            f"in {folder / 'unet'}. Choose an LDM text-to-image or Stable Diffusion 1.x checkpoint, not one for inpainting, as base.source."
        )


def _load(folder: Path, index: dict[str, Any], part: str) -> Any:
    _, found = index.get(part) or (None, "nothing")
    if found not in PARTS[part]:
        raise ConfigError(
            f"Expected {part} to be one of {', '.join(PARTS[part])}, found {found}, in {folder / INDEX}. "
            "Choose an LDM text-to-image or Stable Diffusion 1.x checkpoint as base.source."
        )
    try:
        loaded, missing = _from_pretrained(PARTS[part][found], folder / part)
    except (OSError, ValueError, SafetensorError) as error:
        raise ConfigError(f"Expected a complete {found} in {folder / part}, found: {error}. Fetch the checkpoint again.") from None
    if missing:
        raise ConfigError(
            f"Expected a complete {found} in {folder / part}, found no weights for {', '.join(sorted(missing)[:3])}. Fetch the checkpoint again."
        )
    return loaded


def _from_pretrained(cls: Any, folder: Path) -> tuple[Any, set[str]]:
    if issubclass(cls, (PreTrainedTokenizerBase, DDPMScheduler)):
        return cls.from_pretrained(folder, local_files_only=True), set()
    # The libraries fill weights that they do not find with random ones, and only log it.
    loaded, report = cls.from_pretrained(folder, local_files_only=True, use_safetensors=True, output_loading_info=True)
    return loaded, set(report["missing_keys"])


def trainable(modules: Sequence[nn.Module]) -> list[nn.Parameter]:
    """The parameters of `modules` that ask for a gradient."""
    return [p for module in modules for p in module.parameters() if p.requires_grad]


def pixels_to_tensor(images: Any) -> Tensor:
    """(N, H, W, 3) uint8 array to (N, 3, H, W) float32 in [-1, 1]."""
    return torch.from_numpy(images).movedim(-1, 1).float() / 127.5 - 1


def tensor_to_pixels(images: Tensor) -> Any:
    """(N, 3, H, W) in [-1, 1] to (N, H, W, 3) uint8, clipped."""
    return ((images.clamp(-1, 1) + 1) * 127.5).round().movedim(1, -1).byte().cpu().numpy()
