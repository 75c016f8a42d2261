"""The numbers of all categories in one place, against means taken by hand."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stage.core.errors import CorruptFileError
from stage.segmentation.results import SHOWN, gather_metrics, read_results, results_table

MANIFEST = {"count": 10, "accepted": 8, "rejected": 2, "digest": "d" * 64, "shards": [{"path": "shard-00000.parquet"}]}
METHODS = ("stage", "paste")


def scores(iou: float, pro: float | None) -> dict[str, float | None]:
    return {"iou": iou, "acc": 0.5, "auroc": 0.9, "pro": pro, "f1": 0.1, "ap": 0.2, "mIoU": 0.75}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two categories, scored with the samples of two methods."""
    arms = {
        "bolt": {"real_only": scores(0.25, 0.5), "real_and_stage": scores(0.5, 0.25), "real_and_paste": scores(0.125, 0.5)},
        "nut": {"real_only": scores(0.75, 1.0), "real_and_stage": scores(1.0, None), "real_and_paste": scores(0.375, 0.25)},
    }
    for category, values in arms.items():
        _write(tmp_path / "segment" / category / "metrics.json", values)
        for method in METHODS:
            _write(tmp_path / "synthesize" / category / method / "manifest.json", MANIFEST | {"digest": f"of {method}"})
    return tmp_path


def _write(path: Path, values: Any) -> None:
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(values))


def test_the_average_is_over_categories(data: Path) -> None:
    """The headline number would be wrong: (0.25 + 0.75) / 2, (0.5 + 1) / 2 and (0.125 + 0.375) / 2."""
    average = gather_metrics(data, ("bolt", "nut"), METHODS)["average"]

    assert [average[arm]["iou"] for arm in ("real_only", "real_and_stage", "real_and_paste")] == [0.5, 0.75, 0.25]
    assert average["real_only"]["pro"] == 0.75
    assert average["real_only"]["mIoU"] == 0.75


@pytest.mark.parametrize("order", [("bolt", "nut"), ("nut", "bolt")])
def test_a_metric_that_one_category_does_not_have_is_averaged_over_the_others(data: Path, order: tuple[str, str]) -> None:
    """A category without normal test images would end the run after all its training, or take the metric from the rest."""
    place = data / "segment" / "nut" / "metrics.json"
    place.write_text(json.dumps({arm: {"iou": values["iou"]} for arm, values in json.loads(place.read_text()).items()}))

    average = gather_metrics(data, order, METHODS)["average"]

    assert (average["real_only"]["pro"], average["real_and_stage"]["pro"]) == (0.5, 0.25)
    assert average["real_only"]["iou"] == 0.5


def test_metrics_name_the_samples_they_were_trained_on(data: Path) -> None:
    """A number could not be followed back to its dataset."""
    samples = gather_metrics(data, ("bolt",), METHODS)["samples"]

    assert samples == {"bolt": {method: {"count": 10, "accepted": 8, "rejected": 2, "digest": f"of {method}"} for method in METHODS}}


def test_categories_are_those_asked_for_in_their_order(data: Path) -> None:
    """A category that was dropped from params.yaml would stay in the average."""
    results = gather_metrics(data, ("nut",), METHODS)

    assert list(results["categories"]) == ["nut"]
    assert results["average"] == results["categories"]["nut"]
    assert list(gather_metrics(data, ("nut", "bolt"), METHODS)["categories"]) == ["nut", "bolt"]


def test_the_table_shows_percent_of_every_arm_and_the_average(data: Path) -> None:
    """A reader would take fractions for percent, or see a crash where a metric is undefined."""
    output = io.StringIO()
    Console(file=output, width=120).print(results_table(gather_metrics(data, ("bolt", "nut"), METHODS)))

    rows = [[cell.strip() for cell in line.strip("│").split("│")] for line in output.getvalue().splitlines() if line.startswith("│")]
    assert rows[0] == ["bolt", "real only", "25.0", "50.0", "90.0", "50.0", "10.0", "20.0"]
    assert rows[2] == ["bolt", "real and paste", "12.5", "50.0", "90.0", "50.0", "10.0", "20.0"]
    assert rows[4] == ["nut", "real and stage", "100.0", "50.0", "90.0", "-", "10.0", "20.0"]
    assert rows[6] == ["average", "real only", "50.0", "50.0", "90.0", "75.0", "10.0", "20.0"]
    assert all(name in output.getvalue() for name in SHOWN)


def test_results_that_are_not_there_are_named(tmp_path: Path) -> None:
    """`stage results` before the first run would end in a traceback."""
    with pytest.raises(ValueError, match=r"evaluate/metrics\.json, found no such file\. Run `dvc repro`"):
        read_results(tmp_path)


HARM = ["", "{", "[]", "null", "1", '{"average": {}}', '{"average": [], "categories": {}, "samples": {}}', "[" * 100_000, "\\xff", "folder"]


@pytest.mark.parametrize("content", HARM)
def test_damaged_results_are_one_message(tmp_path: Path, content: str) -> None:
    """`stage results` on a file that was cut off, or merged by git, would end in a traceback."""
    path = tmp_path / "evaluate" / "metrics.json"
    path.parent.mkdir()
    path.mkdir() if content == "folder" else path.write_text(content)

    with pytest.raises(CorruptFileError, match=r"Expected the metrics of a finished run .*metrics.json, found .*[Rr]un `dvc repro`"):
        read_results(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("segment/bolt/metrics.json", "[]"),
        ("segment/bolt/metrics.json", '{"real_only": {"iou": 0.5}}'),
        ("segment/bolt/metrics.json", '{"real_only": {"iou": "x"}}'),
        ("synthesize/bolt/stage/manifest.json", '{"count": 1}'),
    ],
)
def test_what_the_results_are_gathered_from_is_checked(data: Path, name: str, content: str) -> None:
    """`evaluate` would end in a KeyError that names neither the file nor what to do."""
    (data / name).write_text(content)

    with pytest.raises(CorruptFileError, match=rf"Expected .*{name}, found .*[Rr]un `dvc repro"):
        gather_metrics(data, ("bolt", "nut"), METHODS)


def test_published_results_are_read_back(data: Path) -> None:
    """`stage results` would show other numbers than `dvc metrics show`."""
    results = gather_metrics(data, ("bolt", "nut"), METHODS)
    _write(data / "evaluate" / "metrics.json", results)

    assert read_results(data) == results
