"""Recognises and ends a worker that beats and does nothing: its process lives, and nothing that it could do has been done for too long."""

import faulthandler
import os
import signal
import socket
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any

from stage.jobs.claims import holder
from stage.jobs.job import Job

LOOKS = 20  # within the limit; a look may read the folder of a job on another machine's disk


class Watch:
    """The watch over one worker's process. `limit_s`: seconds without progress after which it is stuck."""

    def __init__(self, job: Job, pid: int, limit_s: float) -> None:
        self._job, self._pid, self._limit_s = job, pid, limit_s
        self._next_look = self._since = time.monotonic()  # which stands still while the machine sleeps
        self._at: Any = None

    def finds_it_stuck(self) -> bool:
        """Whether the worker has made no progress for the limit. Costs nothing between two looks."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + self._limit_s / LOOKS
        with suppress(OSError):  # the disk is away: the worker waits for it, or ends with the reason
            if (at := standing(self._job, self._pid)) != self._at:
                self._at, self._since = at, now
        return now - self._since >= self._limit_s

    def told(self) -> str:
        """Why the worker was ended."""
        return (
            f"Expected worker {self._pid} to make progress within {self._limit_s:.0f} s, found none, in {self._job.folder}, so that it was "
            "ended. Raise execution.stuck_s in params.yaml if a batch may take longer here; otherwise look at the GPU and the disk."
        )


@contextmanager
def ending_if_stuck(job: Job, *, limit_s: float) -> Generator[None]:
    """End this process, a worker's, if it is stuck while the block runs, and say at which lines: nobody else may be watching it."""
    watch, done = Watch(job, os.getpid(), limit_s), Event()

    def look() -> None:
        while not done.wait(limit_s / LOOKS):
            if watch.finds_it_stuck():
                sys.stderr.write(f"{watch.told()}\n")
                faulthandler.dump_traceback(2)  # of the process, wherever `sys.stderr` leads
                os.kill(os.getpid(), signal.SIGKILL)  # what hangs would keep the process from ending by itself

    Thread(target=look, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def standing(job: Job, pid: int) -> Any:
    """What a worker of this machine is at: the batches that it holds, each with its failures so far.

    One that holds none is loading, or waits for others: it is where all the others are.
    """
    owners = {int(file.stem): holder(file) for file in (job.folder / "claims").glob("[0-9]*.json")}
    here = socket.gethostname()
    own = [number for number, owner in owners.items() if owner is not None and (owner.host, owner.pid) == (here, pid)]
    return {number: len([*job.failures(number).glob("*")]) for number in own} or (owners, len(job.left()), len(job.set_aside()))
