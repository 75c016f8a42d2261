"""The parts of a base in diffusers' layout: which files each is made of, and reading it in whatever state a download left it."""

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from diffusers.pipelines.latent_diffusion.pipeline_latent_diffusion import LDMBertModel
from diffusers.utils import logging as diffusers_logging
from torch import Tensor
from transformers import BertTokenizer, CLIPTextModel, CLIPTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from stage.core.digests import files_digest
from stage.core.errors import ConfigError
from stage.model.codec import PatchCodec

INDEX = "model_index.json"
SCHEDULERS = (
    "DDPMScheduler",
    "DDIMScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "UniPCMultistepScheduler",
)
# Which folder plays which part, by the names that diffusers' pipelines use, and which classes may be built from it.
PARTS: dict[str, dict[str, Any]] = {
    "unet": {"UNet2DConditionModel": UNet2DConditionModel},
    "vae": {"AutoencoderKL": AutoencoderKL, "PatchCodec": PatchCodec},
    "vqvae": {"AutoencoderKL": AutoencoderKL},
    "text_encoder": {"CLIPTextModel": CLIPTextModel},
    "bert": {"LDMBertModel": LDMBertModel},
    "tokenizer": {name: cls for cls in (CLIPTokenizer, BertTokenizer) for name in (cls.__name__, cls.__name__ + "Fast")},
    "scheduler": dict.fromkeys(SCHEDULERS, DDPMScheduler),  # they differ in how they sample, not in their alpha_bars
}
# Whole names, so that no variant (fp16, non_ema) is taken for the weights; the safe format first.
DIFFUSERS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
TRANSFORMERS = ("model.safetensors", "pytorch_model.bin")
WEIGHTS = {"unet": DIFFUSERS, "vae": DIFFUSERS, "vqvae": DIFFUSERS, "text_encoder": TRANSFORMERS, "bert": TRANSFORMERS}
# A tokenizer that finds the vocabulary of another class, and none of its own, loads with hardly a word, and says nothing.
VOCABULARIES = {
    "CLIPTokenizer": (("tokenizer.json",), ("vocab.json", "merges.txt")),
    "BertTokenizer": (("tokenizer.json",), ("vocab.txt",)),
}
SCHEDULE, CONFIG = (("scheduler_config.json",),), (("config.json",),)  # of every network
SMALL_FILES = frozenset(name for choices in (*VOCABULARIES.values(), SCHEDULE, CONFIG) for choice in choices for name in choice) | {
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
}
AGAIN = "Fetch the checkpoint again."
# Nine short bars a run say nothing that someone waits for; what the libraries warn about is checked and said here.
for logging in (diffusers_logging, transformers_logging):
    logging.disable_progress_bar()
    logging.set_verbosity_error()


def read_index(folder: Path) -> dict[str, str]:
    """The class of every part of a base: `unet`, `vae` or `vqvae`, `text_encoder` or `bert`, `tokenizer`, `scheduler`.

    The library that the index names beside a class is not looked at: that of `bert` has changed over the years.
    Raises ConfigError where the folder is of another layout or a part of another class.
    """
    path = folder / INDEX
    if not path.is_file():
        raise ConfigError(f"Expected a base in diffusers' layout, found no {INDEX} in {folder}. Point base.source at such a folder.")
    try:
        index = dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"Expected JSON in {path}, found: {error}. {AGAIN}") from None
    names = ("unet", "vqvae" if "vqvae" in index else "vae", "bert" if "bert" in index else "text_encoder", "tokenizer", "scheduler")
    return {part: _class_name(index.get(part), part, path) for part in names}


def _class_name(entry: Any, part: str, path: Path) -> str:
    found = str((isinstance(entry, list) and entry and entry[-1]) or "nothing")
    if found not in PARTS[part]:
        raise ConfigError(
            f"Expected {part} to be one of {', '.join(PARTS[part])}, found {found}, in {path}. "
            "Choose an LDM text-to-image or Stable Diffusion 1.x checkpoint as base.source."
        )
    return found


def weight_files(part: str, names: Collection[str]) -> list[str]:
    """Those of the file names of a part's folder that hold its weights: safetensors where there are any, whole before in shards."""
    for name in WEIGHTS[part]:
        if name in names:
            return [name]
        if (index := f"{name}.index.json") in names:
            stem, suffix = name.split(".")
            return [index, *sorted(found for found in names if re.fullmatch(rf"{stem}-\d+-of-\d+\.{suffix}", found))]
    return []


def check_files(folder: Path, part: str, class_name: str) -> list[str]:
    """The names of a part's weight files, if its folder is complete; a ConfigError names the first file that is not there."""
    names = {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set[str]()
    settings = SCHEDULE if part == "scheduler" else VOCABULARIES.get(class_name.removesuffix("Fast"), CONFIG)
    if not any(names.issuperset(choice) for choice in settings):
        raise _incomplete(folder, " or ".join(" with ".join(choice) for choice in settings), names)
    weights = weight_files(part, names) if part in WEIGHTS else []
    if part in WEIGHTS and not weights:
        raise _incomplete(folder, f"{' or '.join(WEIGHTS[part])}, whole or in shards with an index", names)
    if weights and weights[0].endswith(".index.json") and (absent := sorted(_shards(folder / weights[0]).difference(weights))):
        raise _incomplete(folder, f"the shards that {weights[0]} lists, {', '.join(absent[:3])} among them", names)
    return weights


def base_digest(folder: Path) -> str:
    """SHA-256 of a base: over the names and contents of the files that are read of it, and nothing else that lies beside them.

    Raises ConfigError as `read_index` and `check_files` do.
    """
    files = [folder / INDEX]
    for part, class_name in read_index(folder).items():
        place = folder / part
        files += [place / name for name in check_files(place, part, class_name)]
        files += [place / name for name in SMALL_FILES if (place / name).is_file()]
    return files_digest(folder, files)


def _shards(path: Path) -> set[str]:
    try:
        return {str(name) for name in json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()}
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ConfigError(f"Expected an index of weights in shards in {path}, found something else. {AGAIN}") from None


def _incomplete(folder: Path, wanted: str, names: Collection[str]) -> ConfigError:
    return ConfigError(f"Expected {wanted} in {folder}, found {', '.join(sorted(names)[:8]) or 'no files'}. {AGAIN}")


def load_part(folder: Path, part: str, class_name: str) -> Any:
    """One part of the base in `folder`, networks in float32; from pickles nothing but tensors is taken.

    Raises ConfigError where files or weights are missing, damaged or of another network.
    """
    place = folder / part
    weights = check_files(place, part, class_name)
    for name in weights:
        if name.endswith(".bin"):
            _check_pickle(place / name)
    try:
        loaded, unfit = _from_pretrained(PARTS[part][class_name], place, weights)
    except Exception as error:  # the libraries let through whatever their parsers raise on a damaged file
        reason = str(error).partition("\n")[0].partition(". ")[0].rstrip(".")
        raise ConfigError(f"Expected a complete {class_name} in {place}, found: {reason}. {AGAIN}") from error
    if unfit:
        found = f"found no weights of the right shape for {', '.join(unfit[:3])}"
        raise ConfigError(f"Expected a complete {class_name} in {place}, {found}. {AGAIN}")
    return loaded


def _from_pretrained(cls: Any, folder: Path, weights: list[str]) -> tuple[Any, list[str]]:
    """A part, and the names of the weights that it did not find."""
    if not weights:
        return cls.from_pretrained(folder, local_files_only=True), []
    # A text encoder saved in half precision would stay so; diffusers' networks come in float32 by themselves.
    is_text = issubclass(cls, PreTrainedModel)
    options: dict[str, Any] = {"dtype": torch.float32, "weights_only": True, "ignore_mismatched_sizes": True} if is_text else {}
    loaded, report = cls.from_pretrained(
        folder, local_files_only=True, use_safetensors=".safetensors" in weights[0], output_loading_info=True, **options
    )
    # The libraries fill weights that are missing, or of another shape, with random ones, and only log it.
    return loaded, sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})


def _check_pickle(path: Path) -> None:
    """Refuse a pickle of anything but named tensors. Unpickling tensors only runs no code; torch's own error advises to allow it."""
    try:
        content = torch.load(path, map_location="meta", weights_only=True)
        is_safe = all(isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items())
    except Exception as error:  # an unpickler raises anything on a damaged file
        raise _pickle_error(path) from error
    if not is_safe:
        raise _pickle_error(path)


def _pickle_error(path: Path) -> ConfigError:
    return ConfigError(
        f"Expected named tensors and nothing else in {path}, found a damaged file or other objects, which might run code; none was run. "
        "Fetch the checkpoint again, or choose one with .safetensors as base.source."
    )
