"""Point params.yaml at a data set; everything else in the file, comments included, stays as it is."""

from collections.abc import Sequence
from pathlib import Path

import yaml as yaml_1_1
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from stage.params import load_params


def use_data(params_file: Path, source: Path, layout: str, categories: Sequence[str], licence: str) -> None:
    """Write source, layout, licence and categories into `params_file`; a ConfigError where it is not valid before and afterwards."""
    load_params(params_file)
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1000  # never fold a line: the comments stand beside the values
    values = yaml.load(params_file)
    values["categories"][:] = [_text(name) for name in categories]  # in place, so that its comment stays
    values["prepare"] |= {"source": _text(source.resolve().as_posix()), "layout": layout, "licence": _text(licence)}
    partial = params_file.with_suffix(".partial")
    try:
        yaml.dump(values, partial)
        load_params(partial)
        partial.replace(params_file)
    finally:
        partial.unlink(missing_ok=True)


def _text(value: str) -> str:
    """Quoted where `load_params`, which reads YAML 1.1, would take the bare word for something else: a category called `on`."""
    return value if yaml_1_1.safe_load(f"[{value}]") == [value] else DoubleQuotedScalarString(value)
