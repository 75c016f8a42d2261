"""One trial of `stage chaos`: a job of its own that a fault is injected into, and that the same command then has to finish."""

import os
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import NamedTuple

from numpy.random import Generator

from stage.chaos.miniature import CATEGORY, Miniature
from stage.chaos.processes import end, spawned
from stage.core.digests import folder_digest
from stage.core.processes import FAULT
from stage.jobs.failures import check_complete, reset_failures
from stage.jobs.job import Job, load_job
from stage.jobs.planning import make_job
from stage.jobs.store import BatchStore
from stage.jobs.worker import drain
from stage.release.publication import publish_jobs
from stage.release.verification import verify
from stage.synthesis.recipe import recipe_of
from stage.synthesis.schema import SHARDS

LEASE_S, MAX_FAILURES = 2.0, 3
LOG = "log"
OUTPUT = Path("data/published")


class Trial(NamedTuple):
    """A spool with one job and its publication below `root`; `finished` is the root of an undisturbed run."""

    root: Path
    finished: Path
    source: Miniature
    random: Generator

    @property
    def output(self) -> Path:
        """Where the job is published."""
        return self.root / OUTPUT

    @property
    def log(self) -> Path:
        """The log of the trial's processes."""
        return self.root / LOG

    @property
    def job(self) -> Job:
        """The job, read anew. Raises ValueError or OSError if it is damaged."""
        (folder,) = (self.root / "spool" / "jobs").iterdir()
        job = load_job(folder)
        job.check("cpu")
        return job

    def is_complete(self) -> bool:
        """Whether everything is there, by the product's own checks."""
        try:
            return not self.job.unfinished() and not verify(self.output)
        except (ValueError, OSError):
            return False

    def matches_undisturbed_run(self) -> bool:
        """Whether what is published is complete and equal to what an undisturbed run publishes."""
        shards, expected = self.output / SHARDS, self.finished / OUTPUT / SHARDS
        return self.is_complete() and folder_digest(shards) == folder_digest(expected)

    def start(self, fault: str = "", *, limit: Callable[[], None] | None = None, log: Path | None = None) -> BaseProcess:
        """Start a worker that publishes at the end; `fault` as in stage.core.processes, `limit` is called in its process first."""
        return spawned(log or self.log, _work, self, fault, limit)

    def start_publisher(self) -> BaseProcess:
        """Start a process that only publishes."""
        return spawned(self.log, publish_job, self.job.folder, self.root)

    def run_again(self) -> int:
        """The exit code of the whole command, which plans the job again if it is damaged."""
        return end(spawned(self.log, _run, self))


Harm = Callable[[Trial], bool]  # injects a fault, and returns whether it was noticed


def plan(root: Path, source: Miniature) -> Path:
    """The folder of the job; the job is planned if it is missing."""
    made = {"catalog": source.catalog, "base": source.base, "checkpoint": source.checkpoint}
    return make_job(recipe_of("stage", CATEGORY, source.params, **made), BatchStore(root / "spool"))


def finish_trial(folder: Path, root: Path) -> None:
    """Make what is left, and publish."""
    drain(folder, device="cpu", lease_s=LEASE_S, max_failures=MAX_FAILURES)
    check_complete(load_job(folder))
    publish_job(folder, root)


def publish_job(folder: Path, root: Path) -> None:
    """Publish a finished job."""
    publish_jobs([folder], root / OUTPUT, lease_s=LEASE_S)


def _work(trial: Trial, fault: str, limit: Callable[[], None] | None) -> None:
    if limit is not None:
        limit()
    os.environ[FAULT] = fault
    finish_trial(trial.job.folder, trial.root)


def _run(trial: Trial) -> None:
    job = load_job(plan(trial.root, trial.source))  # planned again if it is damaged
    job.delete_damaged()
    reset_failures(job, lease_s=LEASE_S)
    finish_trial(job.folder, trial.root)
