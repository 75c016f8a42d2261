"""What went wrong with a batch: a worker that died over it, or a try that failed; and when that is enough to set it aside."""

import json
import secrets
import shutil

from stage.claims import is_alive
from stage.durable import write_whole
from stage.jobs import Job


class IncompleteRunError(ValueError):
    """A run that made what it could, and not everything."""


def blame(job: Job, number: int, reason: str) -> None:
    """Note that a try at a batch came to nothing, and why."""
    job.deaths(number).mkdir(parents=True, exist_ok=True)
    write_whole(json.dumps({"reason": reason}) + "\n", job.deaths(number) / f"{secrets.token_hex(8)}.json")


def set_aside(job: Job, number: int, max_deaths: int) -> bool:
    """Whether a batch has failed often enough; from then on nobody tries it, and its file in `aside` says why."""
    notes = sorted(job.deaths(number).glob("*.json"), key=lambda note: note.stat().st_mtime_ns)
    if len(notes) < max_deaths:
        return False
    reasons = [str(json.loads(note.read_text(encoding="utf-8"))["reason"]) for note in notes]
    job.aside(number).parent.mkdir(exist_ok=True)
    reason = f"{len(reasons)} tries failed: {'; '.join(dict.fromkeys(reasons))}"
    write_whole(json.dumps({"number": number, "reason": reason}) + "\n", job.aside(number))
    return True


def forgive(job: Job, *, lease_s: float) -> None:
    """Begin a new run: what was set aside is tried again, and whoever died in an earlier run, killed by hand it may be, counts no more."""
    for name in ("aside", "deaths"):
        shutil.rmtree(job.folder / name, ignore_errors=True)
    for claim in (job.folder / "claims").glob("[0-9]*.json"):
        if not is_alive(claim, lease_s=lease_s):
            claim.unlink(missing_ok=True)


def check_complete(job: Job) -> None:
    """An IncompleteRunError that names every batch that was set aside, or says how many nobody made."""
    missing = [batch.number for batch in job.batches() if not job.spool.is_there(batch.key)]
    if not missing:
        return
    reasons = job.set_aside()
    told = [f"{_name(job, number)} ({reasons[number]})" for number in missing if number in reasons]
    idle = [f"{len(missing) - len(told)} that no worker was left to make"] if len(told) < len(missing) else []
    raise IncompleteRunError(
        f"Expected all {len(job.batches())} batches of {job.recipe.category}, found {len(missing)} missing in {job.folder}: "
        f"{'; '.join(told + idle)}. The other batches are kept. Correct the cause (logs/ in that folder may show it) and run the same "
        "command, which tries these again."
    )


def _name(job: Job, number: int) -> str:
    rows = job.rows(number)
    return f"batch {number}, {rows[0].sample_id} to {rows[-1].ordinal:06d}"
