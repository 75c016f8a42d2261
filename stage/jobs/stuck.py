"""Recognises and ends a stuck worker: its process lives and sends heartbeats, but has made no progress for too long."""

import faulthandler
import os
import signal
import socket
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any, NamedTuple

from stage.jobs.claims import holder
from stage.jobs.job import Job

LOOKS = 20  # within the limit; a look may read the folder of a job on another machine's disk


class Watch:
    """The watch over one worker's process. `limit_s`: seconds without progress after which it is stuck."""

    def __init__(self, job: Job, pid: int, limit_s: float) -> None:
        self._job, self._pid, self._limit_s = job, pid, limit_s
        self._next_look, self._still = time.monotonic(), 0  # counts looks and not seconds, which also pass while the process is paused
        self._at: Standing | None = None

    def finds_it_stuck(self) -> bool:
        """Whether the worker has made no progress for the limit. Costs nothing between two looks."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + self._limit_s / LOOKS
        self._still += 1
        with suppress(OSError):  # the disk is away: the worker waits for it, or ends with the reason
            if (at := standing(self._job, self._pid)) != self._at:
                self._at, self._still = at, 0
        # One that waits for another goes on once that one, if it is stuck, has been ended.
        return self._still >= (LOOKS if self._at and self._at.own else 2 * LOOKS)

    def told(self) -> str:
        """Why the worker was ended."""
        return (
            f"Expected worker {self._pid} to make progress within {self._limit_s:.0f} s, found none, in {self._job.folder}, so that it was "
            "ended. Raise execution.stuck_s in params.yaml if a batch may take longer here; otherwise look at the GPU and the disk."
        )


@contextmanager
def ending_if_stuck(job: Job, *, limit_s: float) -> Generator[None]:
    """End this process, a worker's, if it is stuck while the block runs, and say at which lines.

    For workers that no other process watches. It looks from a Python thread, so it misses a call that keeps other threads from running.
    """
    watch, done = Watch(job, os.getpid(), limit_s), Event()

    def look() -> None:
        while not done.wait(limit_s / LOOKS):
            if watch.finds_it_stuck():
                try:
                    sys.stderr.write(f"{watch.told()}\n")
                    faulthandler.dump_traceback(2)  # of the process, wherever `sys.stderr` leads
                finally:  # even if the message could not be written; the call that hangs would prevent a normal exit
                    os.kill(os.getpid(), signal.SIGKILL)

    Thread(target=look, daemon=True).start()
    try:
        yield
    finally:
        done.set()


class Standing(NamedTuple):
    """A worker's position: the number of failures of each batch that it holds; `others`, if it holds none: the position of all workers.

    A worker that holds none is loading, or waits for others.
    """

    own: dict[int, int]
    others: tuple[Any, ...]


def standing(job: Job, pid: int) -> Standing:
    """The position of this machine's worker with that process id."""
    owners = {int(file.stem): holder(file) for file in (job.folder / "claims").glob("[0-9]*.json")}
    here = socket.gethostname()
    own = [number for number, owner in owners.items() if owner is not None and (owner.host, owner.pid) == (here, pid)]
    failures = {number: len([*job.failures(number).glob("*")]) for number in own}
    return Standing(failures, () if own else (owners, len(job.left()), len(job.set_aside())))
