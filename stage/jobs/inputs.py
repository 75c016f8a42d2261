"""All that decides the samples of a category, by name and value, so that a difference can be named."""

import hashlib
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from stage.core.code_digest import code_digest
from stage.core.device import dtype_of
from stage.core.digests import file_digest
from stage.core.errors import ConfigError
from stage.core.params import Method, Prompts, Section, Synthesize
from stage.datasets.examples import CATALOG
from stage.model.base_parts import base_digest
from stage.model.checkpoints import WEIGHTS

PACKAGES = ("torch", "diffusers", "transformers", "numpy", "scipy", "scikit-image", "pillow")  # those that pixels come from
BATCH, PLANNER = "stage.synthesis.batch:write_batch", "stage.synthesis.plan:padded_plan"
# What decides which rows are planned. A row holds what comes of it, so it need not decide a second time how the row is rendered.
PLANNED = (
    *("name", "seed", "catalog", "planner", "base.prompts.normal", "synthesize.precision"),
    *("synthesize.count", "synthesize.shard_rows", "synthesize.mask_source", "synthesize.placement", "synthesize.perlin"),
)


class Recipe(Section):
    """What a job is given: folders, and the parameters that matter. `device` is `cpu` or `cuda`."""

    category: str
    catalog: Path
    base: Path
    checkpoint: Path
    name: str
    seed: int
    method: Method
    synthesize: Synthesize
    prompts: Prompts
    image_size: int
    timestep_count: int
    device: str

    def inputs(self) -> dict[str, str]:
        """Every input by its name in params.yaml, or its own; files, code and the machine as they are now."""
        values = {
            "name": self.name,
            "seed": self.seed,
            "method": self.method.model_dump(mode="json"),
            "synthesize": self.synthesize.model_dump(mode="json"),
            "base": {"prompts": self.prompts.model_dump(), "image_size": self.image_size, "timestep_count": self.timestep_count},
        }
        return _flat(values) | {
            "catalog": file_digest(self.catalog / CATALOG),
            "base": base_digest(self.base),
            "checkpoint": file_digest(self.checkpoint / WEIGHTS),
            "code": code_digest(BATCH),
            "planner": code_digest(PLANNER),
            "precision": str(dtype_of(self.synthesize.precision, self.device)),
            "device": device_name(self.device),
            "versions": versions(),
        }


def deciding(inputs: Mapping[str, str]) -> dict[str, str]:
    """The inputs that decide how a planned row is rendered and judged."""
    return {name: value for name, value in inputs.items() if not any(f"{name}.".startswith(f"{one}.") for one in PLANNED)}


def parameters_digest(inputs: Mapping[str, str]) -> str:
    """Digest of the parameters among the deciding inputs."""
    return digest_of({name: value for name, value in deciding(inputs).items() if name == "precision" or "." in name})


def digest_of(value: Any) -> str:
    """A digest of anything that JSON can say."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=16).hexdigest()


def refuse_differences(planned: Mapping[str, str], found: Mapping[str, str], folder: Path) -> None:
    """A ConfigError that names every input that is not as it was planned."""
    names = [name for name in sorted({*planned, *found}) if planned.get(name) != found.get(name)]
    if names:
        told = "; ".join(f"{name}: {planned.get(name, 'nothing')}, now {found.get(name, 'nothing')}" for name in names)
        raise ConfigError(
            f"Expected the inputs that the job {folder} was planned with, found {len(names)} changed: {told}. "
            "Run `dvc repro synthesize`, which plans anew and keeps every batch that is still right, or put back what was changed."
        )


def device_name(device: str) -> str:
    """`cpu`, or what the GPU calls itself: on another kind of it, the last bits differ."""
    return "cpu" if torch.device(device).type == "cpu" else torch.cuda.get_device_name(device)


def versions() -> str:
    """The packages that pixels come from, as `torch 2.13.0, ...`."""
    return ", ".join(f"{name} {version(name)}" for name in PACKAGES)


def _flat(values: Mapping[str, Any], place: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{place}{key}.") if isinstance(value, dict) else {f"{place}{key}": json.dumps(value)}
    return flat
