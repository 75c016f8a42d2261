"""Faults of processes for `stage chaos`: killed, or halted until they count as dead, alone and beside others."""

import shutil
import signal
import time

from stage.chaos.damage import write_claim
from stage.chaos.processes import await_halt, await_that, end, send
from stage.chaos.trials import Harm, Trial
from stage.jobs.claims import Owner
from stage.jobs.job import Job

MAKING = ("before_write", "after_write", "after_fsync", "after_rename")  # once per batch
PUBLISHING = ("before_manifest", "before_publish")
A_WHILE_S = 0.3  # several times as long as publishing a miniature takes


def kill(point: str) -> Harm:
    """Kill a worker at a point. What it had finished must remain."""

    def harm(trial: Trial) -> bool:
        shutil.rmtree(trial.output, ignore_errors=True)
        return end(trial.start(_at(point, trial))) == -signal.SIGKILL and not trial.is_complete()

    return harm


def kill_beside(point: str) -> Harm:
    """Kill one of two workers. The other must make its batch too."""

    def harm(trial: Trial) -> bool:
        first = trial.start(_at(point, trial, signal.SIGSTOP))
        await_halt(first)
        second, job = trial.start(), trial.job
        await_that(second, lambda: len(job.left()) == 1, "the other worker to make all other batches")
        first.kill()
        return (end(first), end(second)) == (-signal.SIGKILL, 0) and _failures(job) == 1

    return harm


def kill_beside_publisher(point: str) -> Harm:
    """Kill one of two publishers. The other must wait until then, and publish."""
    return lambda trial: _publish_beside(trial, point, signal.SIGKILL) == (-signal.SIGKILL, 0) and trial.is_complete()


def publish_twice(trial: Trial) -> bool:
    """Let two processes publish at once. The second must wait, and publish the same."""
    return _publish_beside(trial, "before_publish", signal.SIGCONT) == (0, 0) and trial.is_complete()


def survive(point: str) -> Harm:
    """Halt a worker until another machine takes over its claim. The first worker's result must not be kept."""

    def harm(trial: Trial) -> bool:
        first = trial.start(_at(point, trial, signal.SIGSTOP))
        await_halt(first)
        job = trial.job
        (claim,) = (job.folder / "claims").glob("[0-9]*.json")
        write_claim(claim, Owner.here()._replace(host="elsewhere"))
        send(first, signal.SIGCONT)
        return end(first) == 0 and _failures(job) == 1

    return harm


def run_two(trial: Trial) -> bool:
    """Run two workers. While one holds a batch, the other must make all others and wait."""
    first = trial.start(_at("before_write", trial, signal.SIGSTOP))
    await_halt(first)
    second, job = trial.start(), trial.job
    await_that(second, lambda: len(job.left()) == 1, "the other worker to make all other batches")
    is_waiting = second.exitcode is None
    send(first, signal.SIGCONT)
    return is_waiting and (end(first), end(second)) == (0, 0) and _failures(job) == 0


def _publish_beside(trial: Trial, point: str, number: int) -> tuple[int, int] | None:
    """The exit codes of a process that halts at the point and then gets a signal, and of a publisher that begins in between; None if it did not wait."""
    shutil.rmtree(trial.output)
    first = trial.start(_at(point, trial, signal.SIGSTOP))
    await_halt(first)
    second, present = trial.start_publisher(), trial.job.folder / "present"
    await_that(second, lambda: len([*present.glob("*.json")]) == 2, "the other publisher to begin")
    time.sleep(A_WHILE_S)
    is_waiting = second.exitcode is None and not trial.output.exists()
    send(first, number)
    codes = end(first), end(second)
    return codes if is_waiting else None


def _at(point: str, trial: Trial, number: int = signal.SIGKILL) -> str:
    """A fault at a point; while making, at a random batch but never the last, so that there is work for others."""
    passes = 0 if point in PUBLISHING else int(trial.random.integers(len(trial.job.batches()) - 1))
    return f"{point}:{passes}:{int(number)}"


def _failures(job: Job) -> int:
    return len([*(job.folder / "failures").glob("*/*.json")])
