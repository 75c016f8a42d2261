"""Tables that an earlier version of the project published: `tests/schema_3` has those of schema version 3, drawn photographs, two samples a type.

What is expected was read from the files with pandas when they were published. Published tables do not change, so these files never do.
"""

import json
import shutil
from pathlib import Path

import pytest
from commands import run
from versions_of_data import ask

from stage.release.verification import verify

SAMPLE = "paste/part/crack/000001/0"
BACKGROUND, MASK = "part/train/good/001.png", "part/ground_truth/crack/000_mask.png"


@pytest.fixture(autouse=True)
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the tables as the working folder, without git, DVC or a photograph."""
    shutil.copytree(Path(__file__).parent / "schema_3", tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


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


def test_a_recall_of_them_can_be_weighed() -> None:
    """What was handed out years ago could not be withdrawn."""
    found = json.loads(run("recall", MASK, "--dry-run", "--json").stdout)

    assert [(row["path"], row["kind"]) for row in found["source"]] == [(MASK, "mask")]
    assert SAMPLE in {row["sample_id"] for row in found["every_sample"] if "mask" in row["used_as"]}


def test_verify_finds_them_whole(published: Path) -> None:
    """An upgrade would call every archived data set damaged."""
    assert [verify(folder) for folder in sorted((published / "data/synthesize/part").iterdir())] == [[], []]
