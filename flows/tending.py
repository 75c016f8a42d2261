"""The Prefect task that keeps one worker alive: a process that ends with this one and is restarted when it dies."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.states import Completed, Failed

from flows.engines import WorkerSlot
from stage.core.openlineage import PARENT
from stage.jobs.job import Batch, Job, load_job
from stage.jobs.stuck import Watch
from stage.jobs.worker_process import DONE, INCOMPLETE, REFUSED, STOPPED

POLL_S = 0.5


@task(cache_policy=NO_CACHE, task_run_name="worker {place.number}")
def tend(job_folder: Path, root: Path, place: WorkerSlot, orders: Path, max_failures: int, stuck_s: float) -> State[None]:
    """Keep a worker running in `root` until its job has nothing left or `orders` names a signal; fails with the worker's last message.

    A worker's death counts as a failure of its batch; a worker that dies `max_failures` times in a row without making a batch or
    setting one aside is not restarted. One that makes no progress for `stuck_s` seconds is ended, and counts as dead.
    """
    job, log = load_job(root / job_folder), root / job_folder / "logs" / f"{orders.name}-{place.number}.log"
    status, in_vain = DONE, 0
    while in_vain < max_failures:
        left, aside = job.left(), len(job.set_aside())
        command = ["-m", "stage.cli", "worker", str(job_folder), "--parent", str(os.getpid())]
        pid, status = live(command, root, worker_variables(place), orders, log, lambda pid: Watch(job, pid, stuck_s))
        if status in {DONE, INCOMPLETE, STOPPED} or orders.exists():
            return Completed(message="stopped" if status not in {DONE, INCOMPLETE} else "nothing left")
        if status == REFUSED:
            return Failed(message=last_words(log))
        in_vain = 0 if has_made_any(job, left, pid) or len(job.set_aside()) > aside else in_vain + 1
    return Failed(
        message=f"Expected worker {place.number} to make batches of {job_folder}, found that it died {max_failures} times without making "
        f"any, the last time with status {status}: {last_words(log)} Read {log}, correct the cause and run the same command."
    )


def live(
    command: Sequence[str],
    root: Path,
    variables: Mapping[str, str],
    orders: Path,
    log: Path,
    watched: Callable[[int], Watch] | None = None,
) -> tuple[int, int]:
    """Run a process of this Python to its end, passing on the signals that `orders` names; returns its id and exit status.

    `watched` gives the watch over the process with an id; the process is killed, with all that it started, once it is found stuck.
    """
    log.parent.mkdir(exist_ok=True)
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, *command], cwd=root, env=variables, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
        )
    given, watch = None, watched(process.pid) if watched else None
    while True:
        with suppress(subprocess.TimeoutExpired):
            return process.pid, process.wait(POLL_S)
        if (order := read_signal(orders)) not in (None, given):
            process.send_signal(signal.Signals[order])
            given = order
        if watch is not None and watch.finds_it_stuck():
            told = f"{watch.told()}\n"
            with log.open("a", encoding="utf-8") as file:
                file.write(told)
            sys.stderr.write(told)
            os.killpg(process.pid, signal.SIGKILL)  # a hung call of the GPU's driver lets no other signal through
            watch = None


def worker_variables(place: WorkerSlot) -> dict[str, str]:
    """The environment variables of this process, with the worker's GPU and the id of the flow run that it works for."""
    own = {PARENT: str(flow_run.id)} | ({} if place.gpus is None else {"CUDA_VISIBLE_DEVICES": place.gpus})
    return {**os.environ, **own}


def read_signal(orders: Path) -> str | None:
    """The name of the signal for the workers, if there is one."""
    try:
        return orders.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None


def has_made_any(job: Job, left: Sequence[Batch], pid: int) -> bool:
    """Whether the worker with that process id has made one of the batches that were left when it began."""
    return any(_maker(job, batch) == str(pid) for batch in left)


def _maker(job: Job, batch: Batch) -> str:
    """The id of the process that made a batch; "" if there is none, or it cannot be read."""
    try:
        return job.store.maker(batch.key)["pid"]
    except (OSError, ValueError, LookupError):
        return ""


def last_words(log: Path) -> str:
    """The last message in a log, from its last `Expected` on; without one, its last line."""
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    return text[text.rfind("Expected ") :] if "Expected " in text else text.rpartition("\n")[2] or "it said nothing."
