"""One trial of `stage chaos`: a job of its own, to do harm to, and what becomes of it when the same command is run again."""

import multiprocessing
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
from numpy.random import Generator

from stage.batches import Spool
from stage.deaths import check_complete, forgive
from stage.digests import folder_digest
from stage.faults import FAULT
from stage.jobs import Job, load_job, make_job
from stage.miniature import CATEGORY, Miniature
from stage.publication import publish_job
from stage.shards import SHARDS
from stage.verification import verify
from stage.worker import drain

LEASE_S, MAX_DEATHS = 2.0, 3
PATIENCE_S = 120.0  # for a process that takes a second; one that takes longer hangs
LOG = "log"


class HangError(RuntimeError):
    """A process did not come to where it should have been long ago."""


class Trial(NamedTuple):
    """Below `root`, a spool with one job, and where it is published; `finished` is the root of both as they should become."""

    root: Path
    finished: Path
    source: Miniature
    random: Generator

    @property
    def output(self) -> Path:
        """Where the job is published."""
        return self.root / "published"

    @property
    def job(self) -> Job:
        """The job, read anew; a ValueError or an OSError where it is damaged."""
        (folder,) = (self.root / "spool" / "jobs").iterdir()
        job = load_job(folder)
        job.check("cpu")
        return job

    def is_complete(self) -> bool:
        """Whether everything is there, by the checks that the product itself makes."""
        try:
            return not self.job.unfinished() and not verify(self.output)
        except (ValueError, OSError):
            return False

    def is_as_it_should_be(self) -> bool:
        """Whether what is published is complete, and the very same that an undisturbed run publishes."""
        shards, expected = self.output / SHARDS, self.finished / self.output.name / SHARDS
        return self.is_complete() and folder_digest(shards) == folder_digest(expected)

    def start(self, fault: str = "", most_bytes: int | None = None) -> BaseProcess:
        """A worker that publishes in the end; `fault` as in stage.faults, `most_bytes` that it may write to a file."""
        return _started(_work, self, fault, most_bytes)

    def run_again(self) -> int:
        """The exit code of the whole command, with a job that is made again where it was damaged, as that error says."""
        return end(_started(_run, self))


def plan(root: Path, source: Miniature) -> Path:
    """The folder of the job, which is made where it is missing."""
    made = {"catalog": source.catalog, "base": source.base, "checkpoint": source.checkpoint}
    return make_job(CATEGORY, **made, params=source.params, spool=Spool(root / "spool"))


def make(folder: Path, output: Path) -> None:
    """Make what is left, and publish."""
    drain(folder, device="cpu", lease_s=LEASE_S, max_deaths=MAX_DEATHS)
    check_complete(load_job(folder))
    publish_job(folder, output)


def end(process: BaseProcess) -> int:
    """Its exit code, once it has ended; a HangError where it does not."""
    process.join(PATIENCE_S)
    if process.exitcode is None:
        process.kill()
        raise HangError(f"expected a process to end within {PATIENCE_S:g} s, found it running")
    return process.exitcode


def await_halt(process: BaseProcess) -> None:
    """Return when the process has halted itself at its point."""
    watched = psutil.Process(process.pid)
    await_that(lambda: watched.status() == psutil.STATUS_STOPPED, "a process to halt at its point")


def await_that(is_so: Callable[[], bool], what: str) -> None:
    """Return when it is so; a HangError where it does not become so."""
    until = time.monotonic() + PATIENCE_S
    while not is_so():
        if time.monotonic() > until:
            raise HangError(f"expected {what} within {PATIENCE_S:g} s, found that it did not come to that")
        time.sleep(0.01)


def _started(target: Callable[..., None], *arguments: object) -> BaseProcess:
    process = _context().Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


def _context() -> ForkServerContext:
    """Processes that begin with everything imported, and with no thread or lock of this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _work(trial: Trial, fault: str, most_bytes: int | None) -> None:
    os.environ[FAULT] = fault
    if most_bytes is not None:  # what a full disk is to its writer: beyond it, every write fails
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, resource.RLIM_INFINITY))
    _quietly(trial.root / LOG if most_bytes is None else Path(os.devnull), lambda: make(trial.job.folder, trial.output))


def _run(trial: Trial) -> None:
    def act() -> None:
        job = _mended(trial)
        forgive(job, lease_s=LEASE_S)
        make(job.folder, trial.output)

    _quietly(trial.root / LOG, act)


def _mended(trial: Trial) -> Job:
    try:
        return trial.job
    except (ValueError, OSError):
        shutil.rmtree(trial.root / "spool" / "jobs")
        return load_job(plan(trial.root, trial.source))


def _quietly(log: Path, act: Callable[[], None]) -> None:
    """One torch thread, stderr into a file, and an error is an exit code."""
    torch.set_num_threads(1)
    with log.open("a", encoding="utf-8") as sys.stderr:
        try:
            act()
        except (ValueError, OSError, RuntimeError) as error:
            sys.stderr.write(f"{error}\n")
            sys.exit(1)
