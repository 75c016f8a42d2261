"""The configurations of the paper's Fig. 6, as differences from params.yaml."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any

import pyarrow.compute as pc
from pydantic import Field, TypeAdapter, ValidationError

from stage.core.errors import ConfigError
from stage.core.params import Params
from stage.core.section import Section
from stage.core.yaml_files import read_yaml
from stage.datasets.columns import STRING
from stage.datasets.pairs import Pairs, write_table
from stage.release.reader import shard_paths
from stage.synthesis.schema import COLUMNS

CONFIGURATIONS = Path("ablation/configurations.yaml")
RESULTS, SPECIMENS = "ablations.json", "specimens.parquet"  # the files that `ablate` publishes per category
STEPS = "synthesize.steps"
SHOWN = 8  # samples per defect type among the specimens of every configuration


class Configuration(Section):
    """One bar of a group: `name` can name a folder, `overrides` has dotted keys of params.yaml."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    label: Annotated[str, Field(min_length=1)]
    overrides: dict[str, Any]


def load_configurations(path: Path = CONFIGURATIONS) -> list[Configuration]:
    """The configurations in the file's order. Raises ConfigError if the file is missing, malformed, empty, or repeats a name or label."""
    try:
        found = TypeAdapter(list[Configuration]).validate_python(read_yaml(path, "the configurations to compare"))
    except ValidationError as error:
        reason = " ".join(str(error).split())
        raise ConfigError(f"Expected a list of name, label and overrides in {path}, found: {reason}. Correct it there.") from None
    if not found:
        raise ConfigError(f"Expected at least one configuration in {path}, found an empty list. Add one there.")
    for key, values in {"name": [one.name for one in found], "label": [one.label for one in found]}.items():
        if repeated := {value for value in values if values.count(value) > 1}:
            raise ConfigError(f"Expected every configuration's {key} once in {path}, found {_listed(repeated)} repeated. Rename one there.")
    return found


def variants(params: Params, configurations: Sequence[Configuration]) -> list[tuple[Configuration, Params]]:
    """Every configuration with its parameters.

    Raises ConfigError if two have the same parameters, since their bars would not differ, or if `stage`, whose parts they switch, is not among
    `methods`.
    """
    if "stage" not in params.methods:
        raise ConfigError(
            f"Expected `stage` among methods in params.yaml for the ablation of its parts, found {', '.join(params.methods)}."
        )
    made = [(configuration, variant(params, configuration)) for configuration in configurations]
    for (one, values), (other, others) in combinations(made, 2):
        if (values.method, values.train, values.synthesize) == (others.method, others.train, others.synthesize):
            raise ConfigError(
                f"Expected different configurations, found {one.label!r} and {other.label!r} of {CONFIGURATIONS} to be the same with "
                "params.yaml as it is. Switch on there what the ablation is to switch off: method.adapters true, method.alignment "
                "scheduled and some synthesize.graded_intervals."
            )
    return made


def variant(params: Params, configuration: Configuration) -> Params:
    """The parameters with the overrides applied, named after the configuration; `params` itself if there are none."""
    try:
        return _changed(params, configuration)
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
        raise ConfigError(
            f"Expected values that params.yaml could have, found {problems} in the overrides of {configuration.name!r}. "
            f"Correct them in {CONFIGURATIONS}, or what they are to go with in params.yaml."
        ) from None


def _changed(params: Params, configuration: Configuration) -> Params:
    if not configuration.overrides:
        return params
    open_to_change = {"method": params.method, "train": params.train, "synthesize": params.synthesize}
    values = {name: section.model_dump() for name, section in open_to_change.items()}
    for key, value in configuration.overrides.items():
        if key != STEPS or params.synthesize.start != "noise":  # else params.yaml's are those from noise
            _set(values, key, value)
    changed = params.model_copy(update={"name": f"{params.name} {configuration.name}", **values})
    return Params.model_validate(vars(changed))  # `model_copy` validates nothing


def wanted_today(params: Params, path: Path = CONFIGURATIONS) -> list[Params]:
    """The parameters, and those of the ablation's variants that are valid with them, if there is an ablation."""
    wanted = [params]
    # One by one, because `variants` refuses two with the same parameters, and here both are wanted.
    for configuration in load_configurations(path) if path.exists() else []:
        with suppress(ValidationError):  # such as RePaint in ten steps; an unknown key is refused
            wanted.append(_changed(params, configuration))
    return wanted


def write_specimens(samples: Mapping[str, Path], path: Path) -> None:
    """Write the first SHOWN samples per defect type, accepted or not, from every configuration's folder; their plan rows are the same."""
    first = {name: Pairs.read(shard_paths(folder), pc.field("ordinal") < SHOWN).table for name, folder in samples.items()}
    rows = ({**row, "configuration": name} for name, table in first.items() for row in table.to_pylist())
    write_table(rows, {**COLUMNS, "configuration": STRING}, path)


def _set(values: dict[str, Any], key: str, value: object) -> None:
    """Replace the value at a dotted key. Raises ConfigError if there is none."""
    *path, last = key.split(".")
    place: Any = values
    for part in path:
        place = place.get(part) if isinstance(place, dict) else None
    if not path or not isinstance(place, dict) or last not in place:
        raise ConfigError(
            f"Expected an override of a key below {_listed(values)} in params.yaml, found {key!r} in {CONFIGURATIONS}. Correct the key there."
        )
    place[last] = value


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))
