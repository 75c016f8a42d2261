"""The files of a checkpoint, and of a base in diffusers' layout: their names, completeness and digest. Imports no networks."""

import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from stage.core.digests import files_digest
from stage.core.errors import ConfigError

ADAPTERS, CHECKPOINT = "adapters.safetensors", "checkpoint.json"  # the weights of a checkpoint, and the record of how they were made
DENOISING = "denoising.csv"  # beside a checkpoint: how well its base denoises real defects
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
# The parts of a base by folder, named as in diffusers' pipelines, and the classes that each may have.
CLASSES: dict[str, tuple[str, ...]] = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL", "PatchCodec"),
    "vqvae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel",),
    "bert": ("LDMBertModel",),
    "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast", "BertTokenizer", "BertTokenizerFast"),
    "scheduler": SCHEDULERS,
}
# Exact names, so that no variant (fp16, non_ema) is taken for the weights; the safe format comes first.
DIFFUSERS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
TRANSFORMERS = ("model.safetensors", "pytorch_model.bin")
WEIGHTS = {"unet": DIFFUSERS, "vae": DIFFUSERS, "vqvae": DIFFUSERS, "text_encoder": TRANSFORMERS, "bert": TRANSFORMERS}
# A tokenizer that finds only another class's vocabulary loads with hardly a word, and without an error.
VOCABULARIES = {
    "CLIPTokenizer": (("tokenizer.json",), ("vocab.json", "merges.txt")),
    "BertTokenizer": (("tokenizer.json",), ("vocab.txt",)),
}
SCHEDULE, CONFIG = (("scheduler_config.json",),), (("config.json",),)  # of the scheduler; of every network
SMALL_FILES = frozenset(name for choices in (*VOCABULARIES.values(), SCHEDULE, CONFIG) for choice in choices for name in choice) | {
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
}
AGAIN = "Fetch the checkpoint again."


def read_index(folder: Path) -> dict[str, str]:
    """The class of every part of a base: `unet`, `vae` or `vqvae`, `text_encoder` or `bert`, `tokenizer`, `scheduler`.

    The library that the index names beside a class is ignored, because that of `bert` has changed over the years.
    Raises ConfigError if the folder has another layout or a part has another class.
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
    if found not in CLASSES[part]:
        raise ConfigError(
            f"Expected {part} to be one of {', '.join(CLASSES[part])}, found {found}, in {path}. "
            "Choose an LDM text-to-image or Stable Diffusion 1.x checkpoint as base.source."
        )
    return found


def weight_files(part: str, names: Collection[str]) -> list[str]:
    """The file names in a part's folder that hold its weights: safetensors before pickles, one file before shards."""
    for name in WEIGHTS[part]:
        if name in names:
            return [name]
        if (index := f"{name}.index.json") in names:
            stem, suffix = name.split(".")
            return [index, *sorted(found for found in names if re.fullmatch(rf"{stem}-\d+-of-\d+\.{suffix}", found))]
    return []


def check_files(folder: Path, part: str, class_name: str) -> list[str]:
    """The names of a part's weight files. Raises a ConfigError that names what is missing."""
    names = {path.name for path in folder.iterdir() if path.is_file()} if folder.is_dir() else set[str]()
    settings = SCHEDULE if part == "scheduler" else VOCABULARIES.get(class_name.removesuffix("Fast"), CONFIG)
    if not any(names.issuperset(choice) for choice in settings):
        raise _incomplete(folder, " or ".join(" with ".join(choice) for choice in settings), names)
    weights = weight_files(part, names) if part in WEIGHTS else []
    if part in WEIGHTS and not weights:
        raise _incomplete(folder, f"{' or '.join(WEIGHTS[part])}, whole or in shards with an index", names)
    if not weights or not weights[0].endswith(".index.json"):
        return weights
    listed = _shards(folder / weights[0])
    if absent := sorted(listed.difference(weights)):
        raise _incomplete(folder, f"the shards that {weights[0]} lists, {', '.join(absent[:3])} among them", names)
    return [weights[0], *sorted(listed)]  # and no other shards, which nobody reads


def base_digest(folder: Path) -> str:
    """SHA-256 of a base, over the names and contents of the files that are read from it and no others; raises ConfigError as `base_files`."""
    return files_digest(folder, base_files(folder))


def base_files(folder: Path) -> list[Path]:
    """The files that are read of a base, whatever else lies beside them. Raises ConfigError as `read_index` and `check_files` do."""
    files = [folder / INDEX]
    for part, class_name in read_index(folder).items():
        place = folder / part
        files += [place / name for name in check_files(place, part, class_name)]
        files += [place / name for name in SMALL_FILES if (place / name).is_file()]
    return files


def _shards(path: Path) -> set[str]:
    try:
        return {str(name) for name in json.loads(path.read_text(encoding="utf-8"))["weight_map"].values()}
    except (ValueError, LookupError, TypeError, AttributeError):
        raise ConfigError(f"Expected an index of weights in shards in {path}, found something else. {AGAIN}") from None


def _incomplete(folder: Path, wanted: str, names: Collection[str]) -> ConfigError:
    return ConfigError(f"Expected {wanted} in {folder}, found {', '.join(sorted(names)[:8]) or 'no files'}. {AGAIN}")
