"""A worker makes the batches of a job, one after another, beside any number of other workers on any machine.

It may be killed at any time: another worker takes over its claim, and at most one batch is made again.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import NamedTuple

from stage.core.errors import MachineError
from stage.core.progress import check_stop, track
from stage.jobs.claims import Claim, Owner, take
from stage.jobs.failures import record_failure, set_aside
from stage.jobs.heartbeat import beating, present
from stage.jobs.job import Batch, Job, load_job
from stage.jobs.patience import MEND, Patience, patiently
from stage.jobs.store import FencedError, Maker
from stage.jobs.stuck import ending_if_stuck
from stage.synthesis.batch import write_batch
from stage.synthesis.method import METHODS
from stage.synthesis.source import read_source

POLL_S = 0.2  # between two looks at the batches that others are making
IN_A_ROW = 8  # different batches that fail without a success between them: then the worker or all of the data is at fault


class Rules(NamedTuple):
    """From `execution`: seconds until a silent worker elsewhere counts as dead, and failed tries until a batch is set aside."""

    lease_s: float
    max_failures: int


def drain(folder: Path, *, device: str, lease_s: float, max_failures: int, stuck_s: float | None = None) -> None:
    """Make the remaining batches of the job in `folder` on `device`, `cpu` or `cuda`, and wait for those of other workers.

    Returns when every batch is finished or set aside. Raises `Interrupted` between two batches when someone asks to stop,
    ConfigError if the job was planned with other inputs, CorruptFileError if it has been removed, MachineError if, say, a disk is full or
    away for a lease, and whatever a lost GPU raises.
    `stuck_s`: seconds without progress after which the process ends itself; None where another process watches it.
    """
    expected = f"Expected to read the job in {folder}"
    job = patiently(lambda: load_job(folder), expected=expected, lease_s=lease_s)
    with ending_if_stuck(job, limit_s=stuck_s) if stuck_s else nullcontext(), present(folder, lease_s=lease_s):
        if todo := patiently(lambda: _left(job, device), expected=expected, lease_s=lease_s):
            worker = Worker(job, device, Rules(lease_s, max_failures))
            job.check(device)  # again: a checkpoint that changed while it was loaded would be kept under the old one's name
            count = len(job.batches())
            for _ in track(worker.settle(todo), total=count, label=label(job), done=count - len(todo)):
                pass


def _left(job: Job, device: str) -> list[Batch]:
    """The batches that are left, after a check that the inputs are unchanged."""
    job.check(device)
    return job.left()


def label(job: Job) -> str:
    """The progress bar's label."""
    attempt = f", attempt {1 + max(one.attempt for one in job.rejected)}" if job.rejected else ""
    return f"synthesize {job.recipe.method} {job.recipe.category}{attempt}"


class Worker:
    """Holds the renderer that all batches share, and the owner's name on claims."""

    def __init__(self, job: Job, device: str, rules: Rules) -> None:
        recipe = job.recipe
        self.job, self.device, self.rules, self.owner = job, device, rules, Owner.here()
        self.renderer = METHODS[recipe.method].renderer(recipe, device)
        self.source = read_source(recipe.catalog)
        self.failed_in_a_row = set[int]()
        self.patience = Patience(rules.lease_s)

    def settle(self, todo: Sequence[Batch]) -> Iterator[Batch]:
        """Yield batches as they are finished or set aside, by any worker; those that failed before are tried last."""
        left = list(todo)
        while left:
            busy: list[Batch] = []
            for batch in sorted(left, key=self._has_failed):
                check_stop()
                if self._is_settled(batch):
                    yield batch
                else:
                    busy.append(batch)
            if len(busy) == len(left):
                time.sleep(POLL_S)
            left = busy

    def _has_failed(self, batch: Batch) -> bool:
        with suppress(OSError):
            return self.job.failures(batch.number).exists()
        return False

    def _is_settled(self, batch: Batch) -> bool:
        """Whether a batch is settled, after a try at it if need be. A disk that is away for less than a lease is waited for."""
        try:
            settled = self.job.is_settled(batch) or self._try(batch)
        except OSError as error:
            self._wait(batch, error)
            return False
        self.patience.forget()
        return settled

    def _wait(self, batch: Batch, error: OSError) -> None:
        """Wait a moment for the disk. Raises Refusal if it stays away, or if the job has been removed."""
        if isinstance(error, FileNotFoundError):
            with suppress(OSError):
                load_job(self.job.folder)  # a CorruptFileError where the disk answers, and the job is gone
        self.patience.wait(error, self._expected(batch))

    def _try(self, batch: Batch) -> bool:
        """Try a batch; returns whether it is settled. False if another worker has it, or if it must be tried again."""
        claim, dead = take(self.job.claim(batch.number), self.owner, lease_s=self.rules.lease_s)
        if claim is None:
            return False
        with beating(claim, lease_s=self.rules.lease_s):
            if self.job.is_settled(batch):
                return True
            if dead is not None:  # so try it after all others: it may kill this worker too
                return self._record_failure(batch, f"the worker that made it (process {dead.pid} on {dead.host}) died")
            return self._make(batch, claim)

    def _make(self, batch: Batch, claim: Claim) -> bool:
        try:
            self._render(batch, claim)
        except FencedError:
            return False  # its new holder makes it
        except Exception as error:
            if _is_about_the_machine(error):
                raise  # the next batch would fail too
            is_set_aside = self._record_failure(batch, f"{type(error).__name__}: {error}")
            self.failed_in_a_row.add(batch.number)
            if _is_lost(self.device):
                raise
            if len(self.failed_in_a_row) == IN_A_ROW:
                raise MachineError(
                    f"{self._expected(batch)}, found that {IN_A_ROW} in a row failed, this one by {error!r}. {MEND}"
                ) from error
            return is_set_aside
        self.failed_in_a_row.clear()
        return True

    def _record_failure(self, batch: Batch, reason: str) -> bool:
        record_failure(self.job, batch.number, reason)
        return set_aside(self.job, batch.number, self.rules.max_failures)

    def _expected(self, batch: Batch) -> str:
        return f"Expected to make batch {batch.number} of {self.job.folder} and keep it in {self.job.store.root}"

    def _render(self, batch: Batch, claim: Claim) -> None:
        rows, origin = self.job.rows(batch.number), self.job.origin(batch.key)
        begun = Maker.now(self.owner, self.device)

        def write(file: Path) -> None:
            write_batch(self.renderer, rows, self.source, self.job.judge, origin=origin, file=file)

        self.job.store.keep(batch.key, write, claim.is_held, maker=lambda: begun.done()._asdict())


def _is_about_the_machine(error: Exception) -> bool:
    """Whether the error is a disk's, say, and not the batch's fault. A fault of an image has no error number."""
    return isinstance(error, OSError) and error.errno is not None


def _is_lost(device: str) -> bool:
    """Whether a failed kernel has left the GPU unusable for this process."""
    if device == "cpu":
        return False
    import torch  # here, because without a GPU not every method needs it

    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False
