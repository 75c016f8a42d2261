import importlib
import re
from pathlib import Path

import pytest
import yaml

from stage.core.params import load_params
from stage.model.schedule import Transition, alignment_weight, branch_of, paper_timestep, timesteps, transitions

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
INTERVALS = ((800, 1000), (300, 400))
WALKS = re.findall(r"^\| `(uniform|coarse_to_fine)`, (\d+) \| (.+) \| (.+) \|$", PAGE, flags=re.MULTILINE)
ABLATIONS = PAGE.split("## Ablations")[1].split("\n## ")[0]
PARTING = PAGE.split("## Where paper and released code differ")[1].split("\n### ")[0]


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`([a-z_]+\.[A-Za-z_0-9]+)`", PAGE))))
def test_names_on_the_page_exist(name):
    """Otherwise the page would send its reader to a function or a parameter that is gone."""
    section, key = name.split(".")
    if section in PARAMS:
        assert key in PARAMS[section]
    elif key not in ("yaml", "json"):
        places = [path.relative_to(ROOT).with_suffix("") for path in (ROOT / "stage").rglob(f"{section}.py")]
        assert any(hasattr(importlib.import_module(".".join(place.parts)), key) for place in places)


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:params|tests|benchmarks|ablation|stage)/[^`]*)`", PAGE))))
def test_files_on_the_page_exist(path):
    """Otherwise the page would send its reader to a file that is gone."""
    assert (ROOT / path).exists()


@pytest.mark.parametrize("number", range(1, 13))
def test_every_equation_has_a_row(number):
    """Otherwise a reader with the paper beside them would not find an equation's code."""
    rows = re.findall(r"^\| Eq\. (\d+)(?: to (\d+))?", PAGE, flags=re.MULTILINE)
    assert any(int(first) <= number <= int(last or first) for first, last in rows)


def test_the_worked_example_has_five_and_ten_steps_in_both_spacings():
    """Otherwise a row that no test reads could be wrong."""
    assert {(spacing, int(steps)) for spacing, steps, _, _ in WALKS} == {(s, n) for s in ("uniform", "coarse_to_fine") for n in (5, 10)}


@pytest.mark.parametrize(("spacing", "steps", "walk", "zetas"), WALKS)
def test_the_worked_example_is_what_the_sampler_walks(spacing, steps, walk, zetas):
    """Otherwise the rules for long steps, worked out by hand on the page, would not be those of the code."""
    moves = transitions(timesteps(1000, int(steps), spacing))
    bold = [entry.startswith("**") for entry in walk.split()]
    assert [paper_timestep(move.t) for move in moves] == [int(entry.strip("*")) for entry in walk.split()]
    assert [branch_of(move, INTERVALS) == "anomaly_only" for move in moves] == bold
    found = [alignment_weight(move.t, threshold=200, timestep_count=1000) for move in moves]
    assert found == pytest.approx([float(entry) for entry in zetas.split()], abs=1e-12)


def test_the_pages_step_over_a_whole_interval_is_anomaly_only():
    """Otherwise four steps would lose the second interval, which the page says they do not."""
    move = transitions(timesteps(1000, 4, "uniform"))[2]
    assert move == Transition(499, 249)
    assert branch_of(move, INTERVALS) == "anomaly_only"


@pytest.mark.parametrize(
    "key", ["graded_intervals", "composition", "known_region", "last_step", "mask_noise", "mask_reduction", "token_count"]
)
def test_where_the_two_part_the_named_settings_part(key):
    """Otherwise the table would name a switch that neither file uses: these differ from ours in the paper's or the code's settings."""
    section = "method" if key in PARAMS["method"] else "synthesize"
    values = [getattr(getattr(load_params(ROOT / path), section), key) for path in ("params.yaml", "params/official-code.yaml")]
    assert values[0] != values[1]
    assert f"| `{key}` |" in PARTING


@pytest.mark.parametrize("configuration", yaml.safe_load((ROOT / "ablation/configurations.yaml").read_text(encoding="utf-8")))
def test_the_ablations_are_the_pages(configuration):
    """Otherwise a bar of the figure would show something else than the page says of it."""
    changed = configuration["overrides"]
    columns = {
        "method.adapters": str(changed.get("method.adapters", True)).lower(),
        "method.alignment": changed.get("method.alignment", "scheduled"),
        "synthesize.known_region": changed.get("synthesize.known_region", "posterior"),
        "synthesize.graded_intervals": "the intervals" if "synthesize.graded_intervals" not in changed else "[]",
    }
    label = re.escape(configuration["label"])
    row = next(line for line in ABLATIONS.splitlines() if re.match(rf"\| {label}(, [^|]*)? \|", line))
    assert [cell.strip() for cell in row.strip("|").split("|")][1:] == list(columns.values())
