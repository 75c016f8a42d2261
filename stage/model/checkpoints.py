"""The checkpoint of a category: adapters and tokens as safetensors, bound to the base they were trained on."""

from pathlib import Path
from typing import NamedTuple

import torch
from pydantic import PositiveInt, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from stage.core.digests import file_digest
from stage.core.errors import ConfigError
from stage.core.fitting import below
from stage.core.section import Section
from stage.model.base import load_base
from stage.model.files import ADAPTERS, CHECKPOINT, base_digest
from stage.model.generator import Generator


class CheckpointRecord(Section):
    """The settings a generator is built from before its weights are read, and its base."""

    category: str
    types: tuple[str, ...]
    token_count: PositiveInt
    adapters: bool
    adapter_widths: tuple[PositiveInt, ...]
    residual: bool
    base: str
    base_digest: str


class Checkpoint(NamedTuple):
    """A trained generator in evaluation mode, the range of its training latents, (C, 1, 1) each, and its digest."""

    generator: Generator
    bounds: tuple[Tensor, Tensor]
    digest: str


def save_checkpoint(
    generator: Generator, bounds: tuple[Tensor, Tensor], base_folder: Path, folder: Path, *, with_unet: bool, source: str | None = None
) -> None:
    """Write only what was trained: tokens, adapters if there are any, and the U-Net if `with_unet`; and the bounds.

    `source` names the base for people, as `base.source` does; None stands for the folder's name. Loading checks only the digest.
    """
    tensors = {f"adapters.{key}": value for key, value in generator.adapters.state_dict().items()}
    tensors |= {"tokens": generator.tokens.weight, "bounds": torch.stack(bounds)}
    tensors |= {f"unet.{key}": value for key, value in generator.base.unet.state_dict().items()} if with_unet else {}
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: value.detach().cpu().contiguous() for key, value in tensors.items()}, folder / ADAPTERS)
    facts = CheckpointRecord(
        category=generator.category,
        types=generator.types,
        token_count=generator.token_count,
        adapters=bool(generator.adapters),
        adapter_widths=generator.widths,
        residual=generator.residual,
        base=source or base_folder.name,
        base_digest=base_digest(base_folder),
    )
    (folder / CHECKPOINT).write_text(facts.model_dump_json(indent=2) + "\n", encoding="utf-8")


def load_checkpoint(base_folder: Path, folder: Path) -> Checkpoint:
    """The generator of a category on its base. Raises ConfigError if it was trained on another base or is damaged."""
    facts = _read_facts(folder)
    if facts.base_digest != (found := base_digest(base_folder)):
        raise ConfigError(
            f"Expected the base {facts.base_digest[:12]} ({facts.base}) that {folder} was trained on, found {found[:12]} "
            f"in {base_folder}. Run `dvc repro -f pretrain`, then `dvc repro train@{facts.category}`."
        )
    generator = Generator(
        load_base(base_folder),
        facts.category,
        facts.types,
        facts.token_count,
        facts.adapter_widths,
        residual=facts.residual,
        adapters=facts.adapters,
    )
    try:
        low, high = _read_weights(generator, folder / ADAPTERS)
    except (OSError, LookupError, ValueError, RuntimeError, SafetensorError) as error:
        raise _damaged(folder / ADAPTERS, facts.category, error) from error
    return Checkpoint(generator.eval().requires_grad_(False), (low, high), file_digest(folder / ADAPTERS))


def _read_facts(folder: Path) -> CheckpointRecord:
    try:
        return CheckpointRecord.model_validate_json((folder / CHECKPOINT).read_bytes())
    except (OSError, ValidationError) as error:
        raise _damaged(folder / CHECKPOINT, folder.name, error) from error


def _read_weights(generator: Generator, path: Path) -> tuple[Tensor, Tensor]:
    """Load the weights into the generator; returns the bounds."""
    tensors = load_file(path)
    generator.adapters.load_state_dict(below(tensors, "adapters"))
    generator.tokens.load_state_dict({"weight": tensors["tokens"]})
    if unet := below(tensors, "unet"):
        generator.base.unet.load_state_dict(unet)
    low, high = tensors["bounds"]
    return low, high


def _damaged(path: Path, category: str, error: Exception) -> ConfigError:
    reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return ConfigError(f"Expected a complete checkpoint with {path}, found {reason}. Run `dvc repro -f train@{category}`.")
