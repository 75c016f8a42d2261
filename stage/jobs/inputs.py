"""All that decides the samples of a category and method, by name and value, so that a difference can be named."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stage.core.code_digest import code_digest
from stage.core.device import device_name, dtype_name
from stage.core.digests import digest_of, file_digest
from stage.core.errors import ConfigError
from stage.core.work import LIBRARIES, versions
from stage.datasets.examples import CATALOG
from stage.datasets.recalled import read_withdrawn
from stage.datasets.table import read_catalog, training_part
from stage.model.files import ADAPTERS, base_digest
from stage.synthesis.method import CALIBRATE, METHODS
from stage.synthesis.null import nothing_of
from stage.synthesis.recipe import Recipe
from stage.synthesis.rows import Identity, Origin
from stage.synthesis.textures import bank_digest

PLANNING, ORIGIN = "stage.jobs.planning:write_job", "stage.jobs.inputs:origin_of"
# Inputs that decide which rows are planned. Their effect is in the rows, so they are not among the inputs of rendering.
PLANNED = (
    *("name", "seed", "catalog", "planner", "rejected", "withdrawn", "base.prompts.normal", "synthesize.precision", "synthesize.attempts"),
    *("synthesize.count", "synthesize.shard_rows", "synthesize.mask_source", "synthesize.placement", "synthesize.perlin"),
    *("synthesize.background", "synthesize.neighbours", "synthesize.missed_share", "missed", "textures.source", "textures.licence"),
)


def inputs_of(recipe: Recipe, rejected: Iterable[Identity] = ()) -> dict[str, str]:
    """Every input, by its name in params.yaml if it has one; files, code and the machine as they are now.

    `rejected`: the samples of the round before that this one plans again; none for the first round.
    """
    method = METHODS[recipe.method]
    sections = {
        "method": recipe.guidance.model_dump(mode="json"),
        **{name: getattr(recipe, name).model_dump(mode="json") for name in ("paste", "cutpaste", "textures", "draem", "glass", "quilt")},
        "base": {"prompts": recipe.prompts.model_dump(), "image_size": recipe.image_size, "timestep_count": recipe.timestep_count},
    }
    used = (*method.parameters, *(method.begun_by if recipe.synthesize.start == "defect" else ()))
    values = {name: value for name, value in sections.items() if name in used}
    values |= {"name": recipe.name, "seed": recipe.seed, "synthesize": recipe.synthesize.model_dump(mode="json")}
    return (
        _flat(values)
        | {
            "synthesis": recipe.method,
            "catalog": file_digest(recipe.catalog / CATALOG),
            "code": code_digest(*method.rendering, ORIGIN),
            "planner": code_digest(*method.planning, PLANNING),
            "judge": judge_digest(recipe),
            "precision": f"torch.{dtype_name(recipe.synthesize.precision, recipe.device)}",
            "device": device_name(recipe.device),
            "versions": versions(LIBRARIES),
            "rejected": digest_of(list(rejected)),
        }
        | _withdrawn(recipe)
        | ({"missed": json.dumps(recipe.missed)} if recipe.missed else {})
        | ({"textures": bank_digest(recipe.textures, recipe.catalog)} if "textures" in method.parameters else {})
        | _network_digests(recipe)
    )


def _withdrawn(recipe: Recipe) -> dict[str, str]:
    """The samples of the method that a recall has withdrawn, by id; empty if there are none."""
    own = sorted(one for one in read_withdrawn(recipe.catalog).samples if one.startswith(f"{recipe.method}/"))
    return {"withdrawn": json.dumps(own)} if own else {}


def _network_digests(recipe: Recipe) -> dict[str, str]:
    """The digests of checkpoint and base; empty for a method without networks, since every shard has the columns."""
    if recipe.base is None or recipe.checkpoint is None:
        return {"base": "", "checkpoint": ""}
    return {"base": base_digest(recipe.base), "checkpoint": file_digest(recipe.checkpoint / ADAPTERS)}


def judge_digest(recipe: Recipe) -> str:
    """Digest of all that decides the verdict's measure, the same for methods that paste alike; empty if it keeps every sample."""
    if not recipe.synthesize.verdict.is_on:
        return ""
    training = training_part(read_catalog(recipe.catalog / CATALOG))
    told = training[["defect", "group", "image_sha256", "image_digest", "mask_sha256"]].fillna("")
    rule = [recipe.seed, recipe.category, recipe.synthesize.verdict.model_dump(mode="json"), *nothing_of(recipe)]
    return digest_of([*rule, code_digest(CALIBRATE), versions(LIBRARIES), *sorted(told.astype(str).values.tolist())])


def deciding(inputs: Mapping[str, str]) -> dict[str, str]:
    """The inputs that decide how a planned row is rendered and judged."""
    return {name: value for name, value in inputs.items() if not any(f"{name}.".startswith(f"{one}.") for one in PLANNED)}


def origin_of(recipe: Recipe, inputs: Mapping[str, str], key: str) -> Origin:
    """What the samples of a batch record about their making."""
    parameters, times = parameters_digest(inputs), timesteps_of(recipe)
    return Origin(key, inputs["checkpoint"], inputs["base"], parameters, inputs["code"], times, inputs["versions"], inputs["device"])


def timesteps_of(recipe: Recipe) -> tuple[int, ...]:
    """The sampler's timesteps; none for a method without networks."""
    if recipe.checkpoint is None:
        return ()
    from stage.model.schedule import timesteps  # here, because a method without networks need not import them

    return tuple(timesteps(recipe.synthesize.first_timestep(recipe.timestep_count), recipe.synthesize.steps, recipe.synthesize.spacing))


def parameters_digest(inputs: Mapping[str, str]) -> str:
    """Digest of the parameters among the deciding inputs."""
    return digest_of({name: value for name, value in deciding(inputs).items() if name == "precision" or "." in name})


def refuse_differences(planned: Mapping[str, str], found: Mapping[str, str], folder: Path) -> None:
    """Raise a ConfigError that names every input that differs from the planned one, if any does."""
    names = [name for name in sorted({*planned, *found}) if planned.get(name) != found.get(name)]
    if names:
        told = "; ".join(f"{name}: {planned.get(name, 'nothing')}, now {found.get(name, 'nothing')}" for name in names)
        raise ConfigError(
            f"Expected the inputs that the job {folder} was planned with, found {len(names)} changed: {told}. "
            "Run `dvc repro synthesize`, which plans anew and keeps every batch that is still right, or put back what was changed."
        )


def _flat(values: Mapping[str, Any], place: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{place}{key}.") if isinstance(value, dict) else {f"{place}{key}": json.dumps(value)}
    return flat
