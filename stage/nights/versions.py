"""Reads a version's `dvc.lock`: which outputs there are, and which differ between two versions; which parameters the results had."""

from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stage.core.errors import ConfigError
from stage.core.yaml_files import read_yaml

LOCK = "dvc.lock"
CIRCUMSTANCES = ("data/environment", "data/runs")  # code, packages, who and when: they alone make no new version of the data


def outputs(lock: str) -> dict[str, str]:
    """The digest of every output that holds data, by path, in the text of a `dvc.lock`, which may be empty."""
    told: dict[str, Any] = YAML(typ="safe").load(lock) or {}
    found = (one for made in told.get("stages", {}).values() for one in made.get("outs", ()))
    return {
        one["path"]: str(one.get("md5", ""))
        for one in found
        if not f"{one['path']}/".startswith(tuple(f"{name}/" for name in CIRCUMSTANCES))
    }


def changed_outputs(before: str, now: str) -> list[dict[str, str]]:
    """A row for each output that differs between two texts of `dvc.lock`."""
    old, new = outputs(before), outputs(now)
    differing = sorted(path for path in old.keys() | new.keys() if old.get(path) != new.get(path))
    return [{"output": path, "change": "new" if path not in old else "gone" if path not in new else "made again"} for path in differing]


def changed_parameters(lock: Path, params_file: Path) -> list[str]:
    """The values of a parameter file, as `segment.folds`, that differ from those of the last `evaluate` in a `dvc.lock`; none without one.

    Raises ConfigError if one of the files is damaged.
    """
    told = read_yaml(lock, LOCK) if lock.is_file() else {}
    try:
        old = _flat(made := told["stages"]["evaluate"]["params"][params_file.name])
    except (AttributeError, KeyError, TypeError):
        return []
    new = _flat({name: value for name, value in read_yaml(params_file, "a parameter file").items() if name in made})
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))


def _flat(values: dict[str, Any], place: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{place}{name}.") if isinstance(value, dict) else {f"{place}{name}": value}
    return flat


def made_size(lock: Path) -> int:
    """Bytes of all outputs that a `dvc.lock` names; 0 if there is no file. Raises ConfigError if it is damaged, by conflict marks for example."""
    if not lock.is_file():
        return 0
    told = read_yaml(lock, LOCK)
    try:
        return sum(int(one.get("size", 0)) for made in told.get("stages", {}).values() for one in made.get("outs", ()))
    except (AttributeError, TypeError, ValueError):
        raise ConfigError(f"Expected stages with their outputs, as DVC writes them, found something else in {lock}.") from None
