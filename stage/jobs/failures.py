"""Failures of batches: a worker that died over one, or a try that failed. After several a batch is set aside."""

import json
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress

from stage.core.durable import write_whole
from stage.core.errors import IncompleteRunError
from stage.jobs.claims import Owner, take
from stage.jobs.job import Job


def record_failure(job: Job, number: int, reason: str) -> None:
    """Record a failed try at a batch, with its reason; nothing if the job is gone or a new run begins meanwhile (`reset_failures`)."""
    folder = job.failures(number)
    with suppress(FileNotFoundError):
        for place in (folder.parent, folder):  # without parents: a job that was removed must not come back as a folder of failures
            place.mkdir(exist_ok=True)
        write_whole(json.dumps({"reason": reason}) + "\n", folder / f"{time.time_ns():020d}-{secrets.token_hex(4)}.json", make_folder=False)


def set_aside(job: Job, number: int, max_failures: int) -> bool:
    """Set a batch aside if it has failed `max_failures` times; returns whether it did. Its file in `aside` then says why, and no worker tries it.

    Also False if a new run begins meanwhile: then the failures no longer count.
    """
    reasons = list(_reasons(job, number))
    if len(reasons) < max_failures:
        return False
    reason = f"{len(reasons)} tries failed: {'; '.join(dict.fromkeys(reasons))}"
    with suppress(FileNotFoundError):
        job.aside(number).parent.mkdir(exist_ok=True)
        write_whole(json.dumps({"number": number, "reason": reason}) + "\n", job.aside(number), make_folder=False)
        return True
    return False


def reset_failures(job: Job, *, lease_s: float) -> None:
    """Begin a new run: batches that were set aside are tried again, and failures of earlier runs no longer count."""
    for name in ("aside", "failures"):
        shutil.rmtree(job.folder / name, ignore_errors=True)
    for file in (job.folder / "claims").glob("[0-9]*.json"):
        claim, _ = take(file, Owner.here(), lease_s=lease_s)  # as a worker would, so that no living worker's claim is removed
        if claim is not None:
            claim.release()


def check_complete(job: Job) -> None:
    """Raise an IncompleteRunError if batches are missing; it names those that were set aside and counts the others."""
    missing = [batch.number for batch in job.left()]
    if not missing:
        return
    reasons = job.set_aside()
    told = [f"{_name(job, number)} ({reasons[number]})" for number in missing if number in reasons]
    idle = [f"{len(missing) - len(told)} that no worker was left to make"] if len(told) < len(missing) else []
    raise IncompleteRunError(
        f"Expected all {len(job.batches())} batches of {job.recipe.category}, found {len(missing)} missing in {job.folder}: "
        f"{'; '.join(told + idle)}. The other batches are kept. Correct the cause (logs/ in that folder may show it) and run "
        "`dvc repro synthesize`, which tries these again."
    )


def _reasons(job: Job, number: int) -> Iterator[str]:
    for note in sorted(job.failures(number).glob("[0-9]*.json")):
        with suppress(FileNotFoundError):
            yield str(json.loads(note.read_text(encoding="utf-8"))["reason"])


def _name(job: Job, number: int) -> str:
    rows = job.rows(number)
    return f"batch {number}, {rows[0].sample_id} to {rows[-1].ordinal:06d}"
