"""A worker that is stuck and sends heartbeats all the same: its claim never lapses while it lives, and lapses when its process group is ended."""

import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_factory import build
from source_tree import ROOT

from stage.jobs.claims import holder_is_alive
from stage.jobs.heartbeat import is_in_use
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
