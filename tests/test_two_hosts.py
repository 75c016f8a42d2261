"""Two machines over one folder: processes with host names of their own, of which neither can see whether the other's lives."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_factory import Factory, build

from stage.jobs.claims import Owner, holder, holder_is_alive, take
from stage.jobs.gc import remove_garbage
from stage.jobs.heartbeat import BEATS
from stage.jobs.job import Job

LEASE_S = 2.0
PATIENCE_S = 60.0
OTHER = """
import socket, sys, time
from pathlib import Path
socket.gethostname = lambda: "other"
from stage.jobs.claims import Owner, take
from stage.jobs.heartbeat import beating, present
job, lease_s = Path(sys.argv[1]), float(sys.argv[2])
with present(job, lease_s=lease_s):
    claim, _ = take(job / "claims" / "0.json", Owner.here(), lease_s=lease_s)
    with beating(claim, lease_s=lease_s):
        print("holds it", flush=True)
        sys.stdin.readline()
        print(claim.is_held(), flush=True)
"""


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"))


@pytest.fixture
def job(factory: Factory, tmp_path: Path) -> Job:
    job = factory.job(tmp_path / "spool", steps=2)  # which the factory's own parameters do not plan
    factory.fill(job)
    return job


@pytest.fixture
def other(job: Job) -> Iterator["subprocess.Popen[str]"]:
    """A process on another host that works on the job's first batch."""
    command = [sys.executable, "-c", OTHER, str(job.folder), str(LEASE_S)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1]) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "holds it\n"
        yield process
        process.kill()


def until(is_so: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PATIENCE_S
    while not (so := is_so()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return so


def collected(job: Job, factory: Factory) -> set[Path]:
    return {garbage.path for garbage in remove_garbage(job.store, [factory.params], lease_s=LEASE_S, dry_run=False)}


def test_a_living_host_keeps_its_claim_beyond_a_lease(job: Job, other: "subprocess.Popen[str]") -> None:
    """Every batch that takes longer than a lease would be made on both machines."""
    began = time.monotonic()
    while time.monotonic() < began + 1.5 * LEASE_S:
        assert take(job.claim(0), Owner.here(), lease_s=LEASE_S)[0] is None
        time.sleep(LEASE_S / BEATS)

    assert holder(job.claim(0)) is not None
    assert (holder(job.claim(0)) or Owner.here()).host == "other"


def test_a_silent_host_loses_its_claim_and_cannot_publish(job: Job, other: "subprocess.Popen[str]") -> None:
    """A machine that fell asleep would hold up the run for ever, or write over what its successor has made."""
    other.send_signal(signal.SIGSTOP)
    assert until(lambda: take(job.claim(0), Owner.here(), lease_s=LEASE_S)[0] is not None)
    other.send_signal(signal.SIGCONT)

    assert other.communicate("\n")[0] == "False\n"
    assert holder_is_alive(job.claim(0), lease_s=LEASE_S)


def test_gc_leaves_alone_what_another_host_works_on_until_it_is_silent(job: Job, factory: Factory, other: "subprocess.Popen[str]") -> None:
    """One machine's nightly clean-up would take the plan from under another machine's workers."""
    time.sleep(1.2 * LEASE_S)
    assert collected(job, factory) == set()
    assert job.unfinished() == []

    other.kill()
    assert until(lambda: job.folder in collected(job, factory))
    assert not job.folder.exists()


def test_the_clocks_of_two_hosts_need_not_agree(job: Job, other: "subprocess.Popen[str]", monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose clock is an hour ahead would take every other machine for dead; heartbeats have the time of the disk."""
    monkeypatch.setattr(time, "time", lambda: 2e9 + 3600)

    assert take(job.claim(0), Owner.here(), lease_s=LEASE_S)[0] is None
    assert json.loads(job.claim(0).read_text())["host"] == "other"
