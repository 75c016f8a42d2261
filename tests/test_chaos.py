"""The chaos kit: what it injects is survived, and it would say so if it were not."""

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from commands import run

from stage.chaos.damage import DISKS, FILES
from stage.chaos.injections import FULL_DISK, Injection, can_mount, injections
from stage.chaos.kills import MAKING, PUBLISHING
from stage.chaos.kit import NO_DISK, TIMES, TrialResult, chaos, chaos_table, check_outcomes
from stage.chaos.processes import await_halt
from stage.chaos.small_disk import mount_small_disk
from stage.chaos.trials import LOG, Trial
from stage.core.params import load_params

ROOT = Path(__file__).parents[1]
PARAMS = load_params(ROOT / "params.yaml")


def one_of_each(every: Sequence[Injection]) -> list[Injection]:
    """Every fault and every place at least once; `stage chaos` combines them all, and several times."""
    chosen: dict[str, Injection] = {}
    for one in every:
        chosen.setdefault(one.place, one)
    for one in every:
        if one.fault not in {other.fault for other in chosen.values()}:
            chosen[one.fault] = one
    return list(chosen.values())


@pytest.mark.slow
def test_nothing_is_lost_and_nothing_damaged_passes(tmp_path: Path) -> None:
    """A kill, a full disk or a rotten file would cost samples, or change them, and nobody would know."""
    every = injections(with_disks=can_mount())
    outcomes = chaos(tmp_path / "chaos", PARAMS, one_of_each(every), times=1, seed=20261122)

    check_outcomes(outcomes)
    assert {outcome.fault for outcome in outcomes} == {one.fault for one in every}
    assert {outcome.place for outcome in outcomes} == {one.place for one in every}
    assert not (tmp_path / "chaos").exists()


def test_the_command_combines_faults_and_places() -> None:
    """A hundred injections would not be what `stage chaos` says it does."""
    counts = Counter((one.fault, one.place) for one in injections(with_disks=True))

    assert TIMES * len(counts) >= 100
    assert {counts[fault, point] for fault in ("killed", "killed beside another") for point in (*MAKING, *PUBLISHING)} == {1}
    assert {counts[fault, place] for fault in ("file truncated", "bit flipped") for place in FILES} == {1}
    assert {counts[FULL_DISK, place] for place in DISKS} == {1}
    assert set(counts.values()) == {1}


def lose(trial: Trial) -> bool:
    """What no run can make good: the trained weights are gone."""
    shutil.rmtree(trial.root / "spool" / "batches")
    shutil.rmtree(trial.source.checkpoint)
    return True


def overlook(trial: Trial) -> bool:
    """Does nothing, which nobody can notice."""
    return not trial.is_complete()


def die_early(trial: Trial) -> bool:
    """While one worker has halted, another is killed where it was to halt."""
    await_halt(trial.start(f"before_write:0:{signal.SIGSTOP:d}"))
    await_halt(trial.start("before_write"))
    return True


@pytest.mark.slow
def test_a_worker_that_ends_before_its_point_is_told(tmp_path: Path) -> None:
    """One worker that dies early would cost the outcomes of all trials; one that was left halted would keep the command from ending."""
    [outcome] = chaos(tmp_path / "chaos", PARAMS, [Injection("killed early", "before_write", die_early)], times=1)

    assert outcome.trouble.startswith("expected a process to halt at its point, found that it ended first")
    assert (outcome.is_detected, outcome.is_recovered) == (False, False)
    assert not [child for child in multiprocessing.active_children() if child.name == "stage-chaos"]


@pytest.mark.slow
def test_a_loss_is_told_and_its_files_are_kept(tmp_path: Path) -> None:
    """The kit would say that all is well wherever it runs."""
    kinds = [Injection("nothing", "nowhere", overlook, is_late=True), Injection("weights lost", "checkpoint", lose, is_late=True)]

    # In turns: the second one's loss is everybody's.
    [first], [second] = (chaos(tmp_path / str(place), PARAMS, [kind], times=1) for place, kind in enumerate(kinds))

    assert (first.is_detected, first.is_recovered) == (False, True)
    assert (second.is_detected, second.is_recovered) == (True, False)
    assert sorted(path.parent.name for path in tmp_path.glob(f"*/*/{LOG}")) == ["nothing-nowhere-0", "weights-lost-checkpoint-0"]
    with pytest.raises(ValueError, match=r"found trouble with 2:\nnothing, nowhere: not detected; see .*\nweights lost, .*not recovered"):
        check_outcomes([first, second])


@pytest.mark.slow
def test_the_command_prints_a_table_and_for_machines_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check of a new disk could not be part of a script."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("stage.chaos.kit.injections", lambda **_: [Injection("nothing", "nowhere", lambda _: True)])

    (outcome,) = json.loads(run("chaos", "--times", "1", "--json").stdout)

    assert outcome == {"fault": "nothing", "place": "nowhere", "is_detected": True, "is_recovered": True, "trouble": ""}
    assert "nowhere" in run("chaos", "--times", "1").stdout


def test_the_table_counts(capsys: pytest.CaptureFixture[str]) -> None:
    """A loss would not be seen among many lines."""
    good, bad = TrialResult("killed", "a", True, True, ""), TrialResult("killed", "b", True, False, "not recovered")

    columns = [list(column.cells) for column in chaos_table([good, good, bad]).columns]

    assert columns == [["killed", "killed", "all"], ["a", "b", ""], ["2", "1", "3"], ["2", "1", "3"], ["2", "0", "2"], ["0", "1", "1"]]


def test_a_disk_that_cannot_be_filled_is_told() -> None:
    """A table without the fault would pass for one in which it was survived."""
    without, with_it = (TrialResult(fault, "batch", True, True, "") for fault in ("killed", FULL_DISK))

    assert (chaos_table([without]).caption, chaos_table([without, with_it]).caption) == (NO_DISK, None)
    assert {one.fault for one in injections(with_disks=True)} - {one.fault for one in injections(with_disks=False)} == {FULL_DISK}


def test_a_disk_that_is_not_mounted_is_refused(tmp_path: Path) -> None:
    """The disk at hand would be written to in place of the small one. The kernel mounts none for a process of two threads."""
    is_done = threading.Event()
    thread = threading.Thread(target=is_done.wait)
    thread.start()
    try:
        with pytest.raises(OSError, match=r"Invalid argument|not permitted|No space left"):
            mount_small_disk(tmp_path / "disk", 1)
    finally:
        is_done.set()
        thread.join()
    assert not [*(tmp_path / "disk").iterdir()]


def test_a_folder_that_exists_is_left_alone(tmp_path: Path) -> None:
    """Someone's files would be removed with the trials."""
    (tmp_path / "mine").write_text("precious")

    with pytest.raises(ValueError, match=r"found that .* exists\. Name another, or remove it"):
        chaos(tmp_path, PARAMS)
    assert (tmp_path / "mine").read_text() == "precious"


def walk(fault: str | None) -> tuple[int, str]:
    """The exit code of a process that comes to a point `b` three times after `a`, and where it has been."""
    code = "from stage.core.processes import reached\nfor point in 'abbb': reached(point); print(end=point, flush=True)"
    environment = {name: value for name, value in os.environ.items() if name != "STAGE_FAULT"} | ({"STAGE_FAULT": fault} if fault else {})
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (None, (0, "abbb")),
        ("c", (0, "abbb")),
        ("a", (-signal.SIGKILL, "")),
        ("b", (-signal.SIGKILL, "a")),
        ("b:2", (-signal.SIGKILL, "abb")),
        ("b:3", (0, "abbb")),
        (f"b:1:{signal.SIGTERM:d}", (-signal.SIGTERM, "ab")),
    ],
)
def test_a_process_ends_at_the_point_that_is_named(fault: str | None, expected: tuple[int, str]) -> None:
    """A trial would kill elsewhere than its line says, or a run without trials would be killed."""
    assert walk(fault) == expected
