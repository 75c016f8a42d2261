"""Tables that earlier versions of the project published: a folder per schema version, drawn photographs, two samples of each type.

`tests/schema_1` and `tests/schema_2` are from runs of the code of their time (commits 761585c and the one before bdb2d58) with few updates;
their catalogs are without pictures, to be small. What is expected was read from the files with pandas. Published tables do not change,
so these files never do.
"""

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from commands import run
from PIL import Image
from versions_of_data import ask

from stage.release.verification import verify

SAMPLE = "paste/part/crack/000001/0"
BACKGROUND, MASK = "part/train/good/001.png", "part/ground_truth/crack/000_mask.png"


def published_with(schema: int, folder: Path) -> None:
    """The tables of a schema version as a folder's."""
    shutil.rmtree(folder / "data", ignore_errors=True)
    shutil.copytree(Path(__file__).parent / f"schema_{schema}", folder, dirs_exist_ok=True)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, without git, DVC or a photograph."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def published(project: Path) -> Path:
    """The same with tables of schema 3."""
    published_with(3, project)
    return project


@pytest.mark.usefixtures("published")
def test_lineage_reads_them() -> None:
    """Whoever archived a version could ask nothing of it after an upgrade."""
    found = ask("up", SAMPLE)

    assert {row["role"]: row["path"] for row in found["made_from"]} == {
        "background": BACKGROUND,
        "defect": "part/test/crack/000.png",
        "mask": MASK,
    }
    assert found["sample"][0]["image_digest"].startswith("dded3ce4842dbb6b")
    rows = ask("sql", "SELECT method, defect, count(*) AS samples FROM samples GROUP BY ALL ORDER BY ALL")["rows"]
    assert rows == [{"method": method, "defect": defect, "samples": 2} for method in ("paste", "stage") for defect in ("crack", "spot")]
    assert {row["sample_id"] for row in ask("down", BACKGROUND)["every_sample"] if "background" in row["used_as"]} == {SAMPLE}
    assert {row["arm"] for row in ask("down", BACKGROUND)["evaluations"]} == {
        "real_and_mixture",
        "real_and_paste",
        "real_and_stage",
        "real_only",
    }
    assert ask("orphans") == {"samples_without_a_source": [], "batches_and_runs": []}
    assert ask("leakage") == {"leaks": []}


@pytest.mark.usefixtures("published")
def test_a_recall_of_them_can_be_weighed() -> None:
    """What was handed out years ago could not be withdrawn."""
    found = json.loads(run("recall", MASK, "--dry-run", "--json").stdout)

    assert [(row["path"], row["kind"]) for row in found["source"]] == [(MASK, "mask")]
    assert SAMPLE in {row["sample_id"] for row in found["every_sample"] if "mask" in row["used_as"]}


def test_verify_finds_them_whole(published: Path) -> None:
    """An upgrade would call every archived data set damaged."""
    assert [verify(folder) for folder in sorted((published / "data/synthesize/part").iterdir())] == [[], []]


@pytest.mark.parametrize(
    ("schema", "sample", "made_from"),
    [
        (1, "stage/washer/scratch/000000/0", {"background": "030", "mask": "002"}),
        (2, "stage/washer/scratch/000000/0", {"background": "002", "mask": "002"}),
        (2, "paste/washer/scratch/000000/0", {"background": "030", "defect": "001", "mask": "001"}),
    ],
)
def test_lineage_reads_schemas_of_before_the_first_release(project: Path, schema: int, sample: str, made_from: dict[str, str]) -> None:
    """Whoever archived the first data sets could ask nothing of them."""
    published_with(schema, project)

    found = ask("up", sample)

    assert {row["role"]: Path(row["path"]).stem.removesuffix("_mask") for row in found["made_from"]} == made_from
    assert found["run"]
    assert {row["kind"] for row in found["networks"]} == ({"adapters", "base"} if sample.startswith("stage") else set())
    assert ask("leakage") == {"leaks": []}
    assert ask("orphans") == {"samples_without_a_source": [], "batches_and_runs": []}
    background = next(row["path"] for row in found["made_from"] if row["role"] == "background")
    assert sample in {row["sample_id"] for row in ask("down", background)["every_sample"] if "background" in row["used_as"]}
    assert json.loads(run("recall", background, "--dry-run", "--json").stdout)["every_sample"]


def test_evaluations_of_schema_2_reach_the_photographs(project: Path) -> None:
    """Differences of that time did not say what they were against."""
    published_with(2, project)

    assert ask("up", "washer/efficientnet_lite0/real_and_paste/0/ap")["samples"]


def test_a_picture_and_an_id_of_schema_1_are_known(project: Path) -> None:
    """The ids on pictures that were handed out have neither method nor attempt."""
    published_with(1, project)
    shard = next(project.glob("data/synthesize/washer/shards/scratch-*.parquet"))
    for name in ("image", "mask"):
        (project / f"{name}.png").write_bytes(pq.read_table(shard, columns=[name])[name][0].as_py()["bytes"])

    by_id = ask("up", "washer/scratch/000000")["sample"]

    assert by_id[0]["sample_id"] == "stage/washer/scratch/000000/0"
    assert [ask("up", f"{name}.png")["sample"] for name in ("image", "mask")] == [by_id, by_id]
    assert json.loads(run("recall", "washer/scratch/000000", "--dry-run", "--json").stdout)["every_sample"]


def test_versions_of_two_schemas_are_compared(project: Path) -> None:
    """What changed with an upgrade could not be asked."""
    run_in = partial(subprocess.run, cwd=project, check=True, capture_output=True)
    run_in(["git", "init", "-q"])
    run_in([sys.executable, "-m", "dvc", "init", "-q"])
    for schema in (1, 2):
        published_with(schema, project)
        run_in([sys.executable, "-m", "dvc", "add", "-q", *(f"data/{name}" for name in ("prepare", "synthesize"))])
        run_in(["git", "add", "-A"])
        run_in(["git", "commit", "-qm", f"schema {schema}"])
        run_in(["git", "tag", f"v{schema}"])

    changes = {(row["method"], row["defect"], row["change"]): row["samples"] for row in ask("diff", "v1", "v2")["changes"]}

    assert changes == {
        ("paste", "corrosion", "added"): 2,
        ("paste", "scratch", "added"): 2,
        ("stage", "chip", "removed"): 2,
        ("stage", "corrosion", "added"): 4,
        ("stage", "scratch", "regenerated"): 2,
    }
    assert run("lineage", "diff", "v1", "v2", "--sheet", "sheet.png").exit_code == 0
    with Image.open(project / "sheet.png") as sheet:
        assert sheet.width > 2 * 64  # before and after, side by side
    counts = ask("sql", "--all", "SELECT version, count(*) AS samples FROM samples GROUP BY version ORDER BY version")["rows"]
    assert [row["samples"] for row in counts] == [4, 10, 10]
