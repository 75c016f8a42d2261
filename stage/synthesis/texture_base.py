"""Trains a small base on free textures, once for all data sets; `pretrain` continues from it on the data at hand. Not in the paper."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from stage.core.device import device
from stage.core.digests import derived_seed, digest_of
from stage.core.durable import refuse_foreign
from stage.core.fitting import Losses, in_one_part
from stage.core.params import Execution, read_section
from stage.core.work import BASE_WORK, Work, work_key
from stage.datasets.inventory import inventory
from stage.model.base import Base, check_image_size, pixels_to_tensor
from stage.model.masks import latent_mask
from stage.model.pretraining import Fitting, fitted, small_base
from stage.model.pretraining_loss import drawn_timesteps, velocity_error
from stage.synthesis.texture_folder import MEMORY
from stage.synthesis.texture_windows import TextureBase, TextureWindows, read_pictures

CODE = "stage.synthesis.texture_base:train_on_textures"
CURVE = "curve.csv"
FILES = (
    *("model_index.json", "scheduler/scheduler_config.json", "text_encoder/config.json", "text_encoder/model.safetensors", CURVE),
    *("tokenizer/tokenizer.json", "tokenizer/tokenizer_config.json", "unet/config.json", "unet/diffusion_pytorch_model.safetensors"),
    *("vae/config.json", "vae/diffusion_pytorch_model.safetensors"),
)  # of a base that was made here
TEXT = "texture"  # the only prompt; the text encoder is replaced by pretraining


def make_texture_base(textures: Path, recipe: Path, execution: Execution) -> Work:
    """The base of a recipe file and a folder of pictures, as a finished work; an unfinished training is continued."""
    chosen = read_section(recipe, TextureBase, what="a recipe of a base", example="bases/textures.yaml is a complete example")
    work = Work.of("make-base", BASE_WORK, work_key(CODE, recipe=chosen, textures=digest_of(inventory(textures, MEMORY))))
    if not work.is_finished():
        torch.set_num_threads(execution.threads)
        windows = TextureWindows(read_pictures(textures, chosen.image_size), chosen)
        base, curve = train_on_textures(windows, state=work.folder / "state.safetensors", execution=execution)
        base.unet.half()  # half the file; `load_base` reads it as float32, and training goes on from there
        base.save(work.draft)
        curve.to_csv(work.draft / CURVE, index=False)
        work.finish()
    return work


def check_place(folder: Path) -> None:
    """Raise Refusal unless the folder is empty, absent, or a base that was made here, which has its loss curve: publishing replaces it."""
    refuse_foreign(folder, FILES if (folder / CURVE).is_file() else (), "base of make-base")


def train_on_textures(windows: TextureWindows, *, state: Path, execution: Execution) -> tuple[Base, pd.DataFrame]:
    """The base of the windows' recipe, and its loss curve; an unfinished training in `state` is continued."""
    recipe = windows.recipe
    check_image_size(recipe.image_size, recipe.patch * 2 ** (len(recipe.widths) - 1))
    base = untrained_on(windows).to(device(execution.device))
    fit = Fitting("make-base", recipe.iterations, recipe.learning_rate, recipe.weight_average, state, execution.save_every_s)
    return fitted(base, in_one_part(TextureLoss(base, windows)), fit)


def untrained_on(windows: TextureWindows) -> Base:
    """The base that a training begins with; its codec is fitted to the first windows of the recipe."""
    recipe, random = windows.recipe, np.random.default_rng(derived_seed(windows.recipe.seed, "codec"))
    images = np.stack([windows.draw(random).image for _ in range(recipe.fitted)])
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        return small_base(
            images,
            [TEXT],
            patch=recipe.patch,
            widths=recipe.widths,
            text_width=recipe.text_width,
            timestep_count=recipe.timestep_count,
            preconditioned=True,
        )


class TextureLoss:
    """The velocity loss of one iteration over fresh windows."""

    def __init__(self, base: Base, windows: TextureWindows) -> None:
        self.base, self.windows, self.recipe = base, windows, windows.recipe

    def __call__(self, iteration: int) -> Losses:
        """A pure function of the weights and the iteration."""
        recipe, seed = self.recipe, derived_seed(self.recipe.seed, iteration)
        generator, random = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
        latents = self._latents(random)
        t = drawn_timesteps(len(latents), recipe.timestep_count, recipe.low_noise, recipe.low_noise_below, generator)
        noise = torch.randn(latents.shape, generator=generator).to(latents.device)
        condition = self.base.embed([TEXT]).expand(len(latents), -1, -1)
        return {"loss": velocity_error(self.base, latents, t, noise, condition).mean()}

    def _latents(self, random: np.random.Generator) -> Tensor:
        """Latents of a batch of windows; a share of `isolated`, the first with a defect, keep only the defect."""
        drawn = [self.windows.draw(random) for _ in range(self.recipe.batch)]
        latents = self.base.encode(pixels_to_tensor(np.stack([one.image for one in drawn])).to(self.base.unet.device))
        left = round(self.recipe.isolated * self.recipe.batch)
        for row, one in enumerate(drawn):
            if left and one.mask.any():
                latents[row] *= latent_mask(one.mask, self.base.factor, "max").to(latents.device)
                left -= 1
        return latents
