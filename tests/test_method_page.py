import importlib
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "method.md").read_text()


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([a-z_]+\.[A-Za-z_0-9]+)`", PAGE))))
def test_names_on_the_page_exist(name):
    """Otherwise the page would send its reader to a function or a parameter that is gone."""
    section, key = name.split(".")
    parameters = yaml.safe_load((ROOT / "params.yaml").read_text())
    if section in parameters:
        assert key in parameters[section]
    elif key != "yaml":
        assert hasattr(importlib.import_module(f"stage.{section}"), key)


@pytest.mark.parametrize("number", range(1, 13))
def test_every_equation_has_a_row(number):
    """Otherwise a reader with the paper beside them would not find an equation's code."""
    rows = re.findall(r"^\| Eq\. (\d+)(?: to (\d+))?", PAGE, flags=re.MULTILINE)
    assert any(int(first) <= number <= int(last or first) for first, last in rows)
