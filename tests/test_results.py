"""The numbers of all categories in one place, against means taken by hand."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stage.segmentation.results import SHOWN, gather_metrics, read_results, results_table

MANIFEST = {"count": 10, "accepted": 8, "rejected": 2, "digest": "d" * 64, "shards": [{"path": "shard-00000.parquet"}]}


def scores(iou: float, pro: float | None) -> dict[str, float | None]:
    return {"iou": iou, "acc": 0.5, "auroc": 0.9, "pro": pro, "f1": 0.1, "ap": 0.2, "mIoU": 0.75}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two categories, scored."""
    arms = {
        "bolt": {"real_only": scores(0.25, 0.5), "real_and_synthetic": scores(0.5, 0.25)},
        "nut": {"real_only": scores(0.75, 1.0), "real_and_synthetic": scores(1.0, None)},
    }
    for category, values in arms.items():
        _write(tmp_path / "segment" / category / "metrics.json", values)
        _write(tmp_path / "synthesize" / category / "manifest.json", MANIFEST)
    return tmp_path


def _write(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(values))


def test_the_average_is_over_categories(data: Path) -> None:
    """The headline number would be wrong: (0.25 + 0.75) / 2 and (0.5 + 1) / 2."""
    average = gather_metrics(data, ("bolt", "nut"))["average"]

    assert (average["real_only"]["iou"], average["real_and_synthetic"]["iou"]) == (0.5, 0.75)
    assert average["real_only"]["pro"] == 0.75
    assert average["real_only"]["mIoU"] == 0.75


@pytest.mark.parametrize("order", [("bolt", "nut"), ("nut", "bolt")])
def test_a_metric_that_one_category_does_not_have_is_averaged_over_the_others(data: Path, order: tuple[str, str]) -> None:
    """A category without normal test images would end the run after all its training, or take the metric from the rest."""
    place = data / "segment" / "nut" / "metrics.json"
    place.write_text(json.dumps({arm: {"iou": values["iou"]} for arm, values in json.loads(place.read_text()).items()}))

    average = gather_metrics(data, order)["average"]

    assert (average["real_only"]["pro"], average["real_and_synthetic"]["pro"]) == (0.5, 0.25)
    assert average["real_only"]["iou"] == 0.5


def test_metrics_name_the_samples_they_were_trained_on(data: Path) -> None:
    """A number could not be followed back to its dataset."""
    samples = gather_metrics(data, ("bolt",))["samples"]

    assert samples == {"bolt": {"count": 10, "accepted": 8, "rejected": 2, "digest": "d" * 64}}


def test_categories_are_those_asked_for_in_their_order(data: Path) -> None:
    """A category that was dropped from params.yaml would stay in the average."""
    results = gather_metrics(data, ("nut",))

    assert list(results["categories"]) == ["nut"]
    assert results["average"] == results["categories"]["nut"]
    assert list(gather_metrics(data, ("nut", "bolt"))["categories"]) == ["nut", "bolt"]


def test_the_table_shows_percent_of_every_arm_and_the_average(data: Path) -> None:
    """A reader would take fractions for percent, or see a crash where a metric is undefined."""
    output = io.StringIO()
    Console(file=output, width=120).print(results_table(gather_metrics(data, ("bolt", "nut"))))

    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in output.getvalue().splitlines() if line.startswith("│")]
    assert rows[0] == ["bolt", "real only", "25.0", "50.0", "90.0", "50.0", "10.0", "20.0"]
    assert rows[3] == ["nut", "real and synthetic", "100.0", "50.0", "90.0", "-", "10.0", "20.0"]
    assert rows[4] == ["average", "real only", "50.0", "50.0", "90.0", "75.0", "10.0", "20.0"]
    assert all(name in output.getvalue() for name in SHOWN)


def test_results_that_are_not_there_are_named(tmp_path: Path) -> None:
    """`stage results` before the first run would end in a traceback."""
    with pytest.raises(ValueError, match=r"evaluate/metrics\.json, found none\. Run `dvc repro`"):
        read_results(tmp_path)


def test_published_results_are_read_back(data: Path) -> None:
    """`stage results` would show other numbers than `dvc metrics show`."""
    results = gather_metrics(data, ("bolt", "nut"))
    _write(data / "evaluate" / "metrics.json", results)

    assert read_results(data) == results
