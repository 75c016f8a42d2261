"""The real classes in the smallest sizes that work: bases in diffusers' layout, defective images, parameters."""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DiffusionPipeline,
    LDMTextToImagePipeline,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertConfig, LDMBertModel
from safetensors.torch import load_file
from transformers import BertTokenizer, CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from stage.core.params import Params, load_params
from stage.core.progress import stop_on_signals
from stage.model.base import Base, Prediction, noise_schedule, pixels_to_tensor, scheduler_config
from stage.model.codec import PatchCodec
from stage.model.training import DefectImages

SIZE = 16  # px, of every image here
PATCH = 2  # px of a latent cell
TEXTS = ["bottle", "bottle broken large", "isolated bottle broken large", "bottle crack", "isolated bottle crack"]
LENGTH = 20  # tokens of a prompt
WIDTH = 16  # channels of everything
ROOT = Path(__file__).parents[1]


def defect_images(count: int = 4) -> DefectImages:
    """Bottles of noise with a bright square, two defect types in turn; one type's name has an underscore, as in MVTec AD."""
    rng = np.random.default_rng(3)
    images = rng.integers(60, 120, (count, SIZE, SIZE, 3)).astype(np.uint8)
    masks = np.zeros((count, SIZE, SIZE), np.uint8)
    for k in range(count):
        masks[k, 3 : 7 + k % 3, 5 : 9 + k % 2] = 1
    images[masks > 0] = 230
    return DefectImages("bottle", images, masks, ["broken_large" if k % 2 == 0 else "crack" for k in range(count)], images[:2])


def small_unet(channels: int, text_width: int = WIDTH) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=SIZE // PATCH,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=(WIDTH,),
        down_block_types=("CrossAttnDownBlock2D",),
        up_block_types=("CrossAttnUpBlock2D",),
        cross_attention_dim=text_width,
        attention_head_dim=4,
        layers_per_block=1,
        norm_num_groups=4,
    )


def small_clip() -> tuple[CLIPTextModel, CLIPTokenizer]:
    tokenizer = CLIPTokenizer(model_max_length=LENGTH).train_new_from_iterator(TEXTS, vocab_size=400, show_progress=False)
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=LENGTH,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config), tokenizer


def small_autoencoder() -> AutoencoderKL:
    """RGB to four channels at half the size, scaled as the autoencoder of latent diffusion is."""
    return AutoencoderKL(
        block_out_channels=(WIDTH, WIDTH),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=4,
        scaling_factor=0.18215,
    )


def small_base(seed: int = 0, prediction: Prediction = "epsilon") -> Base:
    """A base on patch latents, frozen; equal seeds give equal weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        text_encoder, tokenizer = small_clip()
        codec = PatchCodec.fit(pixels_to_tensor(defect_images().images), PATCH)
        schedule = noise_schedule(DDPMScheduler(**scheduler_config(1000)))
        return Base(small_unet(3 * PATCH**2), text_encoder, tokenizer, codec, schedule, prediction).freeze()


def write_stable_diffusion(folder: Path, *, safe: bool = True, **scheduler: object) -> StableDiffusionPipeline:
    """A miniature of Stable Diffusion 1.x, saved by diffusers' own pipeline; its weights as pickles where not `safe`."""
    torch.manual_seed(0)
    text_encoder, tokenizer = small_clip()
    kept = {key: value for key, value in scheduler_config(1000).items() if key != "clip_sample"}
    pipeline = StableDiffusionPipeline(
        vae=small_autoencoder(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=small_unet(4),
        scheduler=PNDMScheduler(**(kept | {"skip_prk_steps": True, "steps_offset": 1} | scheduler)),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    _save(pipeline, folder, safe=safe)
    return pipeline


def write_latent_diffusion(folder: Path, *, safe: bool = True) -> LDMTextToImagePipeline:
    """A miniature of the paper's base, LDM text-to-image, saved as above; its text length is not its tokenizer's."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "bottle", "broken", "large", "crack", "isolated"]
    words = folder.parent / f"{folder.name}-vocabulary.txt"
    words.write_text("\n".join(vocabulary))
    config = LDMBertConfig(
        vocab_size=len(vocabulary),
        max_position_embeddings=LENGTH,
        encoder_layers=1,
        encoder_ffn_dim=WIDTH,
        encoder_attention_heads=2,
        head_dim=8,
        d_model=WIDTH,
    )
    pipeline = LDMTextToImagePipeline(
        vqvae=small_autoencoder(),
        bert=LDMBertModel(config),
        tokenizer=BertTokenizer(os.fspath(words), model_max_length=77),
        unet=small_unet(4),
        scheduler=DDIMScheduler(**scheduler_config(1000)),
    )
    _save(pipeline, folder, safe=safe)
    return pipeline


def _save(pipeline: DiffusionPipeline, folder: Path, *, safe: bool) -> None:
    pipeline.save_pretrained(folder)
    for path in () if safe else list(folder.glob("*/*.safetensors")):
        torch.save(load_file(path), path.with_name("pytorch_model.bin" if path.stem == "model" else f"{path.stem}.bin"))
        path.unlink()


def small_params(**train: object) -> Params:
    """params.yaml with networks and batches as small as these bases; `train` overrides its section of that name."""
    params = load_params(ROOT / "params.yaml")
    section = {
        "iterations": 3,
        "batch": 3,
        "adapter_widths": (8, 8),
        "augment": False,
        "timesteps_below": 1000,
        "train_base": False,
    } | train
    return params.model_copy(
        update={
            "prepare": params.prepare.model_copy(update={"image_size": SIZE}),
            "base": params.base.model_copy(update={"image_size": SIZE}),
            "train": params.train.model_copy(update=section),
            "execution": params.execution.model_copy(update={"device": "cpu", "threads": 1, "save_every_s": 1e6}),
        }
    )


@contextmanager
def interruptible() -> Iterator[None]:
    """SIGINT stops a training as it does in a flow; pytest's own handling comes back afterwards."""
    kept = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    stop_on_signals()
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
