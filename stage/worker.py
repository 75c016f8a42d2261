"""A worker: takes what is left of a job, batch by batch, beside any number of others, on this machine or on others.

It may be killed at any time: its claim is taken over by another, and at most the batch in its hands is made again.
"""

import os
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

import torch

from stage.batches import FencedError
from stage.checkpoints import load_checkpoint
from stage.claims import Claim, Owner, take
from stage.deaths import blame, set_aside
from stage.jobs import Batch, Job, load_job
from stage.progress import check_stop, track
from stage.synthesis.batch import write_batch
from stage.synthesis.render import Renderer
from stage.synthesis.source import read_source

POLL_S = 0.5  # between two looks at what others have in their hands
BEATS = 4  # signs of life in a lease


class Rules(NamedTuple):
    """From `execution`: seconds until a silent worker elsewhere counts as dead, and failed tries until a batch is set aside."""

    lease_s: float
    max_deaths: int


class MachineError(ValueError):
    """A fault of this machine, for which no batch is to blame."""


def drain(folder: Path, *, device: str, lease_s: float, max_deaths: int) -> None:
    """Make what is left of the job in `folder` on `device`, `cpu` or `cuda`, and wait for what others are making.

    Returns when every batch is finished or set aside. Raises `Interrupted` between two batches when someone asks to stop,
    a ConfigError where the job was planned with other inputs, a MachineError where a disk is full, say, and what a lost GPU raises.
    """
    job = load_job(folder)
    job.check(device)
    batches = job.batches()
    todo = [batch for batch in batches if job.spool.finished(batch.key) is None]
    if todo:
        settled = Worker(job, device, Rules(lease_s, max_deaths)).settle(todo)
        for _ in track(settled, total=len(batches), label=label(job), done=len(batches) - len(todo)):
            pass


def label(job: Job) -> str:
    """What progress is called."""
    return f"synthesize {job.recipe.category}"


class Worker:
    """Holds the model, which all batches share, and its owner's name on claims."""

    def __init__(self, job: Job, device: str, rules: Rules) -> None:
        recipe = job.recipe
        checkpoint = load_checkpoint(recipe.base, recipe.checkpoint)
        self.job, self.device, self.rules, self.owner = job, device, rules, Owner.here()
        self.renderer = Renderer(checkpoint, recipe.method, recipe.synthesize, recipe.prompts, recipe.image_size, device)
        self.source = read_source(recipe.catalog)
        self.damaged: set[str] = set()  # keys of batches whose files are there and wrong

    def settle(self, todo: Sequence[Batch]) -> Iterator[Batch]:
        """Yield batches as they turn out finished or set aside, by whomever."""
        self.damaged |= {batch.key for batch in todo if self.job.spool.is_there(batch.key)}
        left = list(todo)
        while left:
            busy: list[Batch] = []
            for batch in left:
                check_stop()
                if self._is_settled(batch) or self._try(batch):
                    yield batch
                else:
                    busy.append(batch)
            if len(busy) == len(left):
                time.sleep(POLL_S)
            left = busy

    def _is_settled(self, batch: Batch) -> bool:
        is_made = batch.key not in self.damaged and self.job.spool.is_there(batch.key)
        return is_made or self.job.aside(batch.number).exists()

    def _mend(self, batch: Batch) -> None:
        """Under the claim alone: what looked damaged may be another's work by now."""
        if batch.key in self.damaged:
            self.damaged.remove(batch.key)
            if self.job.spool.finished(batch.key) is None:
                self.job.spool.drop(batch.key)

    def _try(self, batch: Batch) -> bool:
        """Whether the batch is settled now; False where someone else is at it, or it is to be tried again."""
        claim, dead = take(self.job.claim(batch.number), self.owner, lease_s=self.rules.lease_s)
        if claim is None:
            return False
        with held(claim, beat_s=self.rules.lease_s / BEATS):
            self._mend(batch)
            if self._is_settled(batch):
                return True
            if dead is not None:
                blame(self.job, batch.number, f"the worker that made it (process {dead.pid} on {dead.host}) died")
            return set_aside(self.job, batch.number, self.rules.max_deaths) or self._make(batch, claim)

    def _make(self, batch: Batch, claim: Claim) -> bool:
        try:
            self._render(batch, claim)
        except FencedError:
            return False  # its new holder makes it
        except Exception as error:
            if _is_about_the_machine(error):
                raise MachineError(
                    f"Expected to make batch {batch.number} of {self.job.folder} and keep it in {self.job.spool.root}, found {error}. "
                    "Finished batches are kept: make room, or mend what is broken, and run the same command."
                ) from None
            blame(self.job, batch.number, f"{type(error).__name__}: {error}")
            if _is_lost(self.device):
                raise
            return set_aside(self.job, batch.number, self.rules.max_deaths)
        return True

    def _render(self, batch: Batch, claim: Claim) -> None:
        rows, origin, settings = self.job.rows(batch.number), self.job.origin(batch.key), self.job.recipe.synthesize
        made_by = maker(self.owner, self.device)

        def write(file: Path) -> None:
            write_batch(self.renderer, rows, self.source, settings, origin=origin, file=file)
            made_by["finished"] = _now()

        self.job.spool.keep(batch.key, write, claim.is_held, maker=made_by)


@contextmanager
def held(claim: Claim, *, beat_s: float) -> Generator[None]:
    """Show every `beat_s` seconds that the holder lives, however long its work takes, and give the claim back at the end."""
    done = Event()

    def beat() -> None:
        while not done.wait(beat_s):
            with suppress(OSError):  # a disk that is away for a moment; the next beat may reach it
                claim.beat()

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        claim.release()


def maker(owner: Owner, device: str) -> dict[str, str]:
    """Who begins a batch now, where, and for which runs of Prefect and DVC: for the table of runs."""
    told = {name: os.environ.get(name, "") for name in ("CUDA_VISIBLE_DEVICES", "STAGE_PARENT_FLOW_RUN", "DVC_STAGE", "DVC_EXP_NAME")}
    return {
        "token": owner.token,
        "host": owner.host,
        "pid": str(owner.pid),
        "device": told["CUDA_VISIBLE_DEVICES"] or device,
        "started": _now(),
        "prefect_run": told["STAGE_PARENT_FLOW_RUN"],
        "dvc_run": f"{told['DVC_STAGE']} {told['DVC_EXP_NAME']}".strip(),
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _is_about_the_machine(error: Exception) -> bool:
    """Whether the next batch would fare no better: a full disk, a file that may not be read. What is wrong with an image has no number."""
    return isinstance(error, OSError) and error.errno is not None


def _is_lost(device: str) -> bool:
    """Whether a failed kernel has left the GPU useless to this process."""
    if torch.device(device).type == "cpu":
        return False
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False
