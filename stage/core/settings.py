"""Point params.yaml at a data set, or at methods; everything else in the file, comments included, stays as it is."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString as Quoted

from stage.core.durable import whole_file
from stage.core.errors import ConfigError
from stage.core.params import load_params
from stage.core.yaml_files import read_yaml

FOLDS = 3  # parts of the real third, each held out once, so that a method can be chosen


def use_data(params_file: Path, source: Path, layout: str, categories: Sequence[str], licence: str) -> None:
    """Write name, categories, source, layout and licence into `params_file`. Raises ConfigError if it is not valid before or afterwards.

    `perfect`, whose samples are drawn, is removed from `segment.arms`.
    """
    yaml, values = _read(params_file)
    # Quoted, because YAML 1.1 takes a category called `on` for a truth value; the list in place, so that its comment stays.
    values["categories"][:] = [Quoted(name) for name in categories]
    values["name"] = Quoted(re.sub(r"[^\w.-]+", "-", source.resolve().name).strip("-.") or "data")
    values["segment"]["arms"][:] = [arm for arm in values["segment"]["arms"] if arm != "perfect"]
    # The demo's washer has a coloured background; most photographs of parts have no colour.
    values["prepare"]["foreground"]["channel"] = "auto"
    values["prepare"] |= {"source": Quoted(source.resolve().as_posix()), "layout": layout, "licence": Quoted(licence)}
    _write(yaml, values, params_file)


def use_methods(params_file: Path, methods: Sequence[str], *, most_folds: int = 0) -> int:
    """Write `methods` into `params_file`, and return `segment.folds`. Raises ConfigError if the file is not valid before or afterwards.

    With `most_folds` of two or more there are FOLDS folds or more afterwards, as far as it allows. Shares of other methods are removed from
    `segment.mixture`, and so is a share that is left alone.
    """
    yaml, values = _read(params_file)
    segment, mixture = values["segment"], values["segment"]["mixture"]
    values["methods"][:] = list(methods)
    segment["folds"] = min(most_folds, max(FOLDS, segment["folds"])) if most_folds > 1 else segment["folds"]
    kept = {name: share for name, share in mixture.items() if name in methods}
    for name in [name for name in mixture if name not in kept or len(kept) < 2]:
        del mixture[name]
    _write(yaml, values, params_file)
    return int(segment["folds"])


def _read(params_file: Path) -> tuple[YAML, Any]:
    load_params(params_file)
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1000  # never fold a line: the comments stand beside the values
    return yaml, read_yaml(params_file, "a parameter file", yaml)


def _write(yaml: YAML, values: Any, params_file: Path) -> None:
    with whole_file(params_file) as partial:
        yaml.dump(values, partial)
        try:
            load_params(partial)
        except ConfigError as error:
            raise ConfigError(str(error).replace(str(partial), str(params_file))) from None
