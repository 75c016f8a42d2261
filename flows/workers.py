"""Runs the workers of a job, shows their progress, and reports what is left undone when the last one has ended.

Correctness does not depend on Prefect or the engine: finished batches are in the store, and claims keep workers apart.
"""

import secrets
import signal
import sys
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture

from flows.engines import places, running_engine
from flows.tending import POLL_S, tend
from stage.core.device import device
from stage.core.durable import write_whole
from stage.core.errors import IncompleteRunError
from stage.core.params import Execution
from stage.core.progress import check_stop, track
from stage.jobs.failures import check_complete, reset_failures
from stage.jobs.heartbeat import present
from stage.jobs.job import Batch, Job, load_job
from stage.jobs.patience import patiently
from stage.jobs.worker import drain, label

WINDOW = 1024  # batches; workers take them in order, so newly settled ones are at the front

Futures = Sequence[PrefectFuture[Any]]


def make_all(folder: Path, execution: Execution) -> None:
    """Have every batch of a job made. Raises IncompleteRunError, which names what was set aside, or Interrupted; keeps what is finished."""
    job, where = load_job(folder), device(execution.device)
    with present(folder, lease_s=execution.lease_s):
        expected = f"Expected to read the finished batches of {folder}"
        patiently(job.delete_damaged, expected=expected, lease_s=execution.lease_s)
        reset_failures(job, lease_s=execution.lease_s)
        if job.left():  # otherwise no worker must start, compare inputs or load networks
            _drain(job, where, execution)
        check_complete(job)


def _drain(job: Job, where: str, execution: Execution) -> None:
    if execution.engine == "local" and execution.workers == 1 and where == "cpu":
        drain_here(job.folder, execution)  # another process would repeat the imports, and there is no GPU to lose
    else:
        drain_elsewhere(job, where, execution)


@task(cache_policy=NO_CACHE)
def drain_here(folder: Path, execution: Execution) -> None:
    """Run one worker in this process."""
    where, stuck_s = device(execution.device), execution.stuck_s
    drain(folder, device=where, lease_s=execution.lease_s, max_failures=execution.max_failures, stuck_s=stuck_s)


def drain_elsewhere(job: Job, where: str, execution: Execution) -> None:
    """Start a task and a process for each slot, and show their common progress."""
    for_workers = places(execution, where)
    orders = (job.folder / "orders" / secrets.token_hex(4)).absolute()
    orders.parent.mkdir(exist_ok=True)
    shared = {
        "job_folder": job.folder,
        "root": Path.cwd(),
        "orders": orders,
        "max_failures": execution.max_failures,
        "stuck_s": execution.stuck_s,
    }
    with running_engine(execution, where, len(for_workers)) as submit:
        futures = [submit(tend, {**shared, "place": place}) for place in for_workers]
        with attended(futures, orders):
            show_progress(job, futures)
        report_failures(job, futures)


@contextmanager
def attended(futures: Futures, orders: Path) -> Generator[None]:
    """Wait for all tasks after the block; if it ends early, by Ctrl-C for example, first let their processes stop, by `orders`."""
    try:
        yield
        wait(futures)
    except BaseException:
        stop(futures, orders)
        raise
    finally:
        orders.unlink(missing_ok=True)


def show_progress(job: Job, futures: Futures) -> None:
    """Show the progress of the whole job until every worker has ended."""
    batches = job.batches()
    left = deque(job.left())
    for _ in track(_settled(job, left, futures), total=len(batches), label=label(job), done=len(batches) - len(left)):
        pass


def _settled(job: Job, left: deque[Any], futures: Futures) -> Iterator[None]:
    """Yield once for every batch that is finished or set aside."""
    ended: list[object] = []
    for future in futures:
        future.add_done_callback(ended.append)
    is_last_look = False
    while left and not is_last_look:
        check_stop()
        is_last_look = len(ended) == len(futures)
        now: list[Batch] = []
        with suppress(OSError):  # the disk is away: the workers wait for it, or end with the reason
            now = [batch for batch in islice(left, WINDOW) if job.is_settled(batch)]
        for batch in now:
            left.remove(batch)
            yield
        if not (now or is_last_look):
            time.sleep(POLL_S)


def wait(futures: Futures) -> None:
    """Wait until all tasks have ended."""
    for future in futures:
        future.wait()


def stop(futures: Futures, orders: Path) -> None:
    """Let every process finish its step; a second Ctrl-C kills them at once."""
    write_whole(signal.SIGTERM.name, orders)
    try:
        wait(futures)
    except KeyboardInterrupt:
        write_whole(signal.SIGKILL.name, orders)
        wait(futures)


def report_failures(job: Job, futures: Futures) -> None:
    """Say why workers failed. Raises IncompleteRunError if they left batches that are neither finished nor set aside."""
    errors = [str(future.state.message) for future in futures if not future.state.is_completed()]
    undone = not all(job.is_settled(batch) for batch in job.batches())
    if errors and undone:
        raise IncompleteRunError("\n".join(dict.fromkeys(errors)))
    for error in dict.fromkeys(errors):
        sys.stderr.write(f"{error}\n")
