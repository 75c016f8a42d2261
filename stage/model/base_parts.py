"""Loads the parts of a base in diffusers' layout, and refuses incomplete or damaged downloads."""

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertModel
from diffusers.utils import logging as diffusers_logging
from torch import Tensor
from transformers import BertTokenizer, CLIPTextModel, CLIPTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from stage.core.errors import ConfigError
from stage.model.codec import PatchCodec
from stage.model.files import AGAIN, SCHEDULERS, check_files

# The class that is built for each name that `files.CLASSES` allows.
BUILT: dict[str, Any] = {
    "UNet2DConditionModel": UNet2DConditionModel,
    "AutoencoderKL": AutoencoderKL,
    "PatchCodec": PatchCodec,
    "CLIPTextModel": CLIPTextModel,
    "LDMBertModel": LDMBertModel,
    **{name: cls for cls in (CLIPTokenizer, BertTokenizer) for name in (cls.__name__, cls.__name__ + "Fast")},
    **dict.fromkeys(SCHEDULERS, DDPMScheduler),  # they differ in how they sample, not in their alpha_bars
}
# The libraries' nine short progress bars per run are noise; what they warn about is checked and reported here.
for logging in (diffusers_logging, transformers_logging):
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def load_part(folder: Path, part: str, class_name: str) -> Any:
    """One part of the base in `folder`. Networks are in float32; pickles may hold only tensors.

    Raises ConfigError if files or weights are missing, damaged or of another network.
    """
    place = folder / part
    weights = check_files(place, part, class_name)
    for name in weights:
        if name.endswith(".bin"):
            _check_pickle(place / name)
    try:
        loaded, unfit = _from_pretrained(BUILT[class_name], place, weights)
    except Exception as error:  # on a damaged file, the libraries pass on any exception of their parsers
        reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
        raise ConfigError(f"Expected a complete {class_name} in {place}, found: {reason}. {AGAIN}") from error
    if unfit:
        found = f"found no weights of the right shape for {', '.join(unfit[:3])}"
        raise ConfigError(f"Expected a complete {class_name} in {place}, {found}. {AGAIN}")
    return loaded


def _from_pretrained(cls: Any, folder: Path, weights: list[str]) -> tuple[Any, list[str]]:
    """A part, and the names of its weights that are missing or of another shape."""
    if not weights:
        return cls.from_pretrained(folder, local_files_only=True), []
    # transformers would keep a text encoder in half precision; diffusers loads in float32 by default.
    is_text = issubclass(cls, PreTrainedModel)
    options: dict[str, Any] = {"dtype": torch.float32, "weights_only": True, "ignore_mismatched_sizes": True} if is_text else {}
    loaded, report = cls.from_pretrained(
        folder, local_files_only=True, use_safetensors=".safetensors" in weights[0], output_loading_info=True, **options
    )
    # The libraries fill missing or mismatched weights with random values, and only log it.
    return loaded, sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})


def _check_pickle(path: Path) -> None:
    """Refuse a pickle of anything but named tensors. `weights_only` runs no code; torch's own error would advise to switch it off."""
    try:
        content = torch.load(path, map_location="meta", weights_only=True)
        is_safe = all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    except Exception as error:  # unpickling a damaged file can raise anything
        raise _pickle_error(path) from error
    if not is_safe:
        raise _pickle_error(path)


def _pickle_error(path: Path) -> ConfigError:
    return ConfigError(
        f"Expected named tensors and nothing else in {path}, found a damaged file or other objects, which might run code; none was run. "
        "Fetch the checkpoint again, or choose one with .safetensors as base.source."
    )
