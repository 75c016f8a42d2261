"""What a version may lose against the last one, against numbers taken by hand."""

import io
import math
from pathlib import Path

import pandas as pd
import pytest
from published import demo_params
from source_tree import ROOT
from test_results import differences, scores

from stage.core.errors import CorruptFileError
from stage.nights.gate import Check, _fidelity, metric_changes, metric_checks, refusal
from stage.nights.settings import load_nightly
from stage.release.fidelity import COLUMNS, write_fidelity
from stage.segmentation.results import Results, _with_intervals, table_in


def results(real: float, paste: float, draws: list[float]) -> Results:
    """Of one category with two arms; an interval of draws d is from their 2.5th to their 97.5th percentile."""
    drawn = differences(draws).assign(category="bolt")
    return Results(scores("bolt", {"real_only": real, "real_and_paste": paste}), _with_intervals(drawn, {0}))


BEFORE = results(0.5, 0.75, [0.15, 0.25, 0.35])  # 0.095 from the difference to the lower end
WIDE = [0.0, 0.25, 0.5]  # 0.2375


@pytest.mark.parametrize(("fall", "worse"), [(0.25, False), (0.26, True), (-0.2, False)])
def test_a_metric_may_fall_by_the_intervals_of_both_versions(fall: float, worse: bool) -> None:
    """A version would be refused by chance, or be published though it is worse."""
    changes = metric_changes(results(0.5, 0.75 - fall, WIDE), BEFORE)
    (found,) = (one for one in changes if (one["arm"], one["metric"]) == ("real_and_paste", "ap"))

    assert found["allowed"] == pytest.approx(math.hypot(0.095, 0.2375))
    assert found["worse"] is worse
    assert not [one for one in changes if one["arm"] == "real_only" and one["worse"]]


def test_real_defects_alone_may_fall_by_the_widest_interval() -> None:
    """They have no difference to themselves; without a bound, a segmenter that learns nothing any more would pass."""
    changes = metric_changes(results(0.1, 0.75, WIDE), BEFORE)

    assert {(one["arm"], one["metric"]) for one in changes if one["worse"]} == {("real_only", "ap"), ("real_only", "iou")}


def test_without_intervals_nothing_excuses_a_fall() -> None:
    """A table that lacks them would let everything pass."""
    none = pd.DataFrame(columns=BEFORE.differences.columns)
    changes = metric_changes(results(0.5, 0.74, WIDE)._replace(differences=none), BEFORE._replace(differences=none))

    assert {one["arm"] for one in changes if one["worse"]} == {"real_and_paste"}


def test_fidelity_is_asked_of_methods_that_show_real_defects(tmp_path: Path) -> None:
    """The demo's `draem`, whose textures resemble no defect, would stop every night; or samples that resemble none be published."""
    (tmp_path / "evaluate").mkdir()
    told = {"paste": ("met",) * 4 + ("missed",) * 2 + ("",), "quilt": ("met", "missed", "missed"), "draem": ("missed",), "stage": ("",)}
    rows = [("bolt", "bent", method, "grain", None, 9, 1.0, 0.1, 1.0, target) for method, targets in told.items() for target in targets]
    write_fidelity(pd.DataFrame(rows, columns=list(COLUMNS)), tmp_path / "evaluate")

    checks = [*_fidelity(tmp_path, demo_params(["bolt"], tuple(told)), load_nightly(ROOT).gate.fidelity)]
    assert [(one.where, one.found, one.holds) for one in checks] == [("bolt paste", "0.667", True), ("bolt quilt", "0.333", False)]


def test_an_arm_that_only_one_version_has_is_not_compared() -> None:
    """A new method could never be published."""
    now = results(0.5, 0.1, WIDE)
    renamed = now._replace(scores=now.scores.replace({"real_and_paste": "real_and_quilt"}))

    assert {one["arm"] for one in metric_changes(renamed, BEFORE)} == {"real_only"}


@pytest.mark.parametrize(("columns", "found"), [(["category", "value"], "none called segmenter, "), ([], "found ")])
def test_a_damaged_table_of_the_last_version_is_a_message(columns: list[str], found: str) -> None:
    """Every night with new photographs would end in a traceback, and nobody know that it may be passed over."""
    file = io.BytesIO(b"PAR1 and no more")
    if columns:
        pd.DataFrame(columns=columns).to_parquet(file)

    with pytest.raises(CorruptFileError, match=found):
        table_in(file, "evaluate/scores.parquet of data-2026-11-28", ["category", "segmenter", "value", "arm"])


def test_a_refusal_names_every_check_that_fails() -> None:
    """Somebody would mend one of two faults, and wait another night."""
    checks = [*metric_checks(metric_changes(results(0.5, 0.1, WIDE), BEFORE)), Check("leaks", "bolt", "none", "none", holds=True)]
    told = str(refusal(checks, "data-2026-11-28"))

    assert "not worse than data-2026-11-28, found 2 failing checks" in told
    assert "ap, bolt segformer real_and_paste: 0.8125 -> 0.1625" in told
    assert "iou" in told
    assert refusal([checks[-1]], "") is None
