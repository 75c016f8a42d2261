"""The workers of a flow, as processes of their own: killed, stopped, orphaned; on this machine, and under Ray and Dask."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import psutil
import pytest
import yaml
from source_tree import ROOT

from stage.chaos.miniature import make_miniature
from stage.core.params import Execution, Params, load_params
from stage.jobs.job import Job, load_job
from stage.jobs.planning import make_job
from stage.jobs.store import BatchStore
from stage.synthesis.recipe import recipe_of

DRAIN = """
import sys
from pathlib import Path
from prefect import flow
from flows.runtime import run
from flows.workers import make_all
from stage.core.params import load_params

@flow(name="drain")
def drain(job: str) -> None:
    make_all(Path(job), load_params().execution)

if __name__ == "__main__":
    run(drain)
"""
PATIENCE_S = 300
HALT_IN_SECOND_BATCH = f"after_write:1:{int(signal.SIGSTOP)}"
EXECUTION = Execution(
    device="auto", threads=1, save_every_s=30, engine="local", workers=2, trainings=1, max_failures=3, lease_s=60, stuck_s=600
)


class Run(NamedTuple):
    """A flow that makes a job in a folder."""

    process: "subprocess.Popen[str]"

    def workers(self) -> list[psutil.Process]:
        """The living processes below it that are workers."""
        try:
            below = psutil.Process(self.process.pid).children(recursive=True)
            return [process for process in below if process.cmdline()[1:4] == ["-m", "stage.cli", "worker"]]
        except psutil.NoSuchProcess:
            return []

    def halted(self, count: int) -> list[psutil.Process]:
        """That many workers that have halted in the middle of a batch."""

        def stopped() -> list[psutil.Process]:
            assert self.process.poll() is None, self.end()
            return [one for one in self.workers() if one.status() == psutil.STATUS_STOPPED]

        return until(stopped, lambda found: len(found) == count)

    def resume(self) -> None:
        """Until the flow ends, let every worker go on that has halted."""
        while self.process.poll() is None:
            for worker in self.workers():
                with suppress(psutil.NoSuchProcess):
                    worker.resume()
            time.sleep(0.2)

    def end(self) -> tuple[int, str]:
        _, said = self.process.communicate(timeout=PATIENCE_S)
        return self.process.returncode, said


def until(look: Callable[[], list[psutil.Process]], is_right: Callable[[list[psutil.Process]], bool]) -> list[psutil.Process]:
    deadline = time.monotonic() + PATIENCE_S
    while not is_right(found := look()) and time.monotonic() < deadline:
        time.sleep(0.2)  # a look at all processes of the machine takes a hundredth of a second
    assert is_right(found)
    return found


Start = Callable[..., Run]


@pytest.fixture(scope="module")
def miniature(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Params]:
    """A category in a folder, and its parameters, with a job of six batches."""
    root = tmp_path_factory.mktemp("miniature")
    params = make_miniature(root, load_params(ROOT / "params.yaml")).params
    settings = params.synthesize.model_copy(update={"count": 12})
    return root, params.model_copy(update={"synthesize": settings, "execution": EXECUTION})


@pytest.fixture
def folder(miniature: tuple[Path, Params], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project in miniature, with params.yaml, and a job, whose method needs no network: workers begin sooner."""
    data, params = shutil.copytree(miniature[0], tmp_path / "data"), miniature[1]
    monkeypatch.chdir(tmp_path)
    make_job(recipe_of("paste", "part", params, catalog=data / "prepare" / "part", base=None, checkpoint=None), BatchStore())
    Path("params.yaml").write_text(yaml.safe_dump(params.model_dump(mode="json")))
    Path("drain.py").write_text(DRAIN)
    return tmp_path


@pytest.fixture
def job(folder: Path) -> Job:
    return load_job(next(Path(".spool/jobs").iterdir()))


@pytest.fixture
def start(job: Job, prefect_home: Path) -> Iterator[Start]:
    """Starts the flow; ends what is left of it."""
    begun: list[subprocess.Popen[str]] = []

    def begin(fault: str = "", **execution: object) -> Run:
        values = yaml.safe_load(Path("params.yaml").read_text())
        values["execution"].update(execution)
        Path("params.yaml").write_text(yaml.safe_dump(values))
        process = subprocess.Popen(
            [sys.executable, "drain.py", str(job.folder)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "STAGE_FAULT": fault, "CUDA_VISIBLE_DEVICES": ""},
        )  # fmt: skip
        begun.append(process)
        return Run(process)

    yield begin
    for process in begun:
        process.kill()
        process.communicate()


def made(job: Job) -> int:
    return sum(job.store.finished(batch.key) is not None for batch in job.batches())


@pytest.mark.slow
def test_a_killed_worker_is_started_again_and_the_run_completes(job: Job, start: Start) -> None:
    """A worker without memory in the night would end the run, or leave its GPU idle."""
    run = start(HALT_IN_SECOND_BATCH)
    victim, _ = run.halted(2)
    assert made(job) == 2
    victim.kill()
    victim.wait()
    run.halted(2)  # its successor has made a batch, and holds another
    assert made(job) == 3
    run.resume()
    status, said = run.end()

    assert (status, made(job)) == (0, 6), said
    assert "synthesize paste part: 6/6" in said
    assert len({job.store.maker(batch.key)["pid"] for batch in job.batches()}) == 3


@pytest.mark.slow
def test_workers_die_with_a_killed_run_and_ctrl_c_keeps_what_is_finished(job: Job, start: Start) -> None:
    """A killed run would leave its workers on the GPUs; Ctrl-C would cost hours, or take them."""
    run = start(HALT_IN_SECOND_BATCH)
    orphans = run.halted(2)
    run.process.kill()
    _, left = psutil.wait_procs(orphans, timeout=60)
    assert not [one for one in left if one.status() != psutil.STATUS_ZOMBIE]
    assert made(job) == 2

    again = start(HALT_IN_SECOND_BATCH)
    halted = again.halted(2)
    again.process.send_signal(signal.SIGINT)
    time.sleep(1)  # the workers are told to stop while they are halted
    for worker in halted:
        worker.resume()
    status, said = again.end()

    assert (status, made(job)) == (130, 6), said
    assert "Finished work is kept" in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_workers_that_cannot_begin_end_the_run_with_their_reason(job: Job, start: Start) -> None:
    """A run whose catalog was changed under it would start workers for ever."""
    catalog = job.recipe.catalog / "catalog.parquet"
    catalog.write_bytes(catalog.read_bytes()[:-1] + b"\1")
    status, said = start(max_failures=1, workers=1).end()

    assert status == 1
    assert "found 1 changed: catalog: " in said
    assert "Traceback" not in said


@pytest.mark.slow
def test_under_an_engine_a_killed_worker_and_its_host_are_replaced(job: Job, start: Start) -> None:
    """A machine of the cluster that dies would take the run with it."""
    if find_spec("prefect_dask") is None:
        pytest.skip("prefect_dask is not installed: pip install '.[dask]'")
    run = start(HALT_IN_SECOND_BATCH, engine="dask", workers=1)
    [victim] = run.halted(1)
    host = victim.parent()
    assert host is not None
    assert host.pid != run.process.pid
    host.kill()
    run.resume()
    status, said = run.end()

    assert (status, made(job)) == (0, 6), said
