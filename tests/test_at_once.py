"""Several segmenters trained at once, each in a process of its own."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from small_factory import CATEGORY, build
from source_tree import ROOT

from flows.at_once import Told
from stage.release.publication import publish_jobs

ITERATIONS = 16
PATIENCE_S = 300


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in miniature, whose next step is to train two segmenters, two at once."""
    monkeypatch.chdir(tmp_path)
    factory = build(tmp_path)
    job = factory.job(tmp_path / ".spool")
    factory.fill(job)
    publish_jobs([job.folder], Path("data/synthesize") / CATEGORY / "stage", lease_s=60.0)
    values: dict[str, Any] = factory.params.model_dump(mode="json") | {"methods": ["stage"], "categories": [CATEGORY]}
    values["segment"] |= {"models": ["efficientnet_lite0"], "iterations": ITERATIONS, "crop": 32, "window": 32, "batch": 4, "normal": 1}
    values["segment"] |= {"synthetic": 2, "arms": [], "folds": 0, "seeds": 1, "few": []}
    values["execution"] |= {"threads": 2, "trainings": 2, "save_every_s": 0.1}
    Path("params.yaml").write_text(yaml.safe_dump(values))
    return tmp_path


def start() -> "subprocess.Popen[str]":
    variables = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", "flows.segment", CATEGORY]
    return subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def trainings(run: "subprocess.Popen[str]") -> list[psutil.Process]:
    """Both processes of the run that train, once each has something to keep."""
    deadline, found = time.monotonic() + PATIENCE_S, list[psutil.Process]()
    while run.poll() is None and time.monotonic() < deadline:
        found = [one for one in psutil.Process(run.pid).children(recursive=True) if "flows.training" in one.cmdline()]
        if len(found) == 2 and len(list(Path(".spool").glob(f"segment/{CATEGORY}/*/*/state.safetensors"))) == 2:
            break
        time.sleep(0.1)
    return found


def test_what_trainings_say_is_passed_on_while_they_get_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A night takes long silence for a stuck run, and would end a healthy training of hours."""
    monkeypatch.setattr("flows.at_once.RELAY_EVERY_S", 0.0)
    told, log = Told(tmp_path), tmp_path / "0.log"
    for line in ("segment real_only: 1/9\n", "", "segment real_only: 2/9\n"):
        with log.open("a") as file:
            file.write(line)
        told.relay()

    assert capsys.readouterr().err.splitlines() == ["segment real_only: 1/9", "segment real_only: 2/9"]


def test_a_killed_training_is_made_again_and_the_other_is_kept(project: Path, prefect_home: Path) -> None:
    """One process that is killed, for want of memory, say, would end hours of others' work on several GPUs."""
    run = start()
    begun = trainings(run)
    begun[-1].kill()  # it began last, so it has most of its work before it
    said, _ = run.communicate(timeout=PATIENCE_S)

    assert len(begun) == 2
    assert run.returncode == 0, said
    assert "ended with status -9 and is tried again alone" in said
    assert said.count(": 0/") == 2  # both at once, and the killed one alone
    assert {path.stem for path in Path("data/segment", CATEGORY).glob("*.safetensors")} == {"real_only", "real_and_stage"}
