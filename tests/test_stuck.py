"""A worker that is stuck and sends heartbeats all the same: its claim never lapses while it lives, and lapses when its process group is ended."""

import os
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path

import pytest
from small_factory import build
from source_tree import ROOT

from flows.tending import last_words, live
from stage.datasets.examples import CATALOG
from stage.jobs.claims import Owner, holder_is_alive, take
from stage.jobs.failures import record_failure
from stage.jobs.heartbeat import is_in_use
from stage.jobs.stuck import Watch, standing
from stage.jobs.worker import drain
from stage.nights.programs import end_group

LEASE_S = 0.4
# Takes a batch's claim as a worker does, and then does nothing but beat.
STUCK = """
import sys, time
from pathlib import Path
from stage.jobs.claims import Owner, take
from stage.jobs.heartbeat import beating
claim, _ = take(Path(sys.argv[1]), Owner.here(), lease_s=float(sys.argv[2]))
with beating(claim, lease_s=float(sys.argv[2])):
    print("beats", flush=True)
    time.sleep(600)
"""


def test_a_batch_of_a_stuck_worker_is_made_once_its_process_group_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every night after it would wait for a batch that looks as if somebody made it."""
    factory = build(tmp_path)
    job = factory.job(tmp_path / "spool", method="paste")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = [sys.executable, "-c", STUCK, str(job.claim(0)), str(LEASE_S)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "beats\n"
        time.sleep(3 * LEASE_S)  # a silent one would have been given up
        assert holder_is_alive(job.claim(0), lease_s=LEASE_S)

        end_group(process)

    assert not is_in_use(job.folder, lease_s=LEASE_S)
    drain(job.folder, device="cpu", lease_s=60.0, max_failures=3)
    assert job.left() == []


def test_a_stuck_worker_is_recognised_and_ended(tmp_path: Path) -> None:
    """`dvc repro` would wait for ever for a call of a GPU that never returns."""
    job = build(tmp_path).job(tmp_path / "spool", method="paste")
    variables, log = {**os.environ, "PYTHONPATH": str(ROOT)}, tmp_path / "logs" / "0.log"
    command = ["-c", STUCK, str(job.claim(0)), str(LEASE_S)]

    pid, status = live(command, tmp_path, variables, tmp_path / "orders", log, lambda pid: Watch(job, pid, 8 * LEASE_S))

    assert status == -signal.SIGKILL
    assert f"Expected worker {pid} to make progress" in last_words(log)
    assert not holder_is_alive(job.claim(0), lease_s=LEASE_S)
    drain(job.folder, device="cpu", lease_s=60.0, max_failures=3)
    assert job.left() == []
    (failure,) = job.failures(0).iterdir()
    assert f"(process {pid} on " in failure.read_text()


def test_a_worker_that_nobody_watches_ends_itself(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`stage worker`, started by hand or by a scheduler, would keep its batch from all other workers for good."""
    job = build(tmp_path).job(tmp_path / "spool", method="paste")
    catalog = job.recipe.catalog / CATALOG
    content = catalog.read_bytes()
    catalog.unlink()
    os.mkfifo(catalog)  # opening it never returns, as on a disk that hangs
    work = f"from pathlib import Path; from stage.jobs.worker import drain; drain(Path({str(job.folder)!r}), device='cpu', lease_s=60, max_failures=3, stuck_s=1)"

    done = subprocess.run([sys.executable, "-c", work], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False, timeout=120)

    told = capfd.readouterr().err
    assert done.returncode == -signal.SIGKILL
    assert "to make progress within 1 s, found none" in told
    assert "in drain" in told, "the lines at which it hangs"
    catalog.unlink()
    catalog.write_bytes(content)
    drain(job.folder, device="cpu", lease_s=60.0, max_failures=3)
    assert job.left() == []


def test_a_worker_that_fails_or_waits_while_others_go_on_is_not_stuck(tmp_path: Path) -> None:
    """Every slow run would lose its workers."""
    job = build(tmp_path).job(tmp_path / "spool", method="paste")
    owner = Owner.here()
    seen = [standing(job, owner.pid)]
    claim, _ = take(job.claim(0), owner._replace(pid=1), lease_s=60)  # another
    seen.append(standing(job, owner.pid))
    own, _ = take(job.claim(1), owner, lease_s=60)
    seen.append(standing(job, owner.pid))
    record_failure(job, 1, "a fault")
    seen.append(standing(job, owner.pid))
    assert claim is not None
    assert own is not None
    own.release()
    seen.append(standing(job, owner.pid))
    claim.release()

    assert all(one != other for one, other in pairwise(seen))
    assert standing(job, owner.pid) == seen[0]
