"""Heartbeats: how a process shows that it is alive and working."""

from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Thread

from stage.jobs.claims import Claim, Owner, holder_is_alive, take

BEATS = 4  # heartbeats per lease


@contextmanager
def beating(claim: Claim, *, lease_s: float) -> Generator[None]:
    """Send heartbeats for a claim while the block runs, several per lease, and give the claim back at the end."""
    done = Event()

    def beat() -> None:
        while not done.wait(lease_s / BEATS):
            with suppress(OSError):  # a disk that is away for a moment; the next beat may reach it
                claim.beat()

    thread = Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        with suppress(OSError):  # as above; a claim that is not given back ends with its process, or with the lease
            claim.release()


@contextmanager
def present(job: Path, *, lease_s: float) -> Generator[None]:
    """Mark a job as in use by this process while the block runs, so that garbage collection leaves it alone."""
    owner = Owner.here()
    claim, _ = take(job / "present" / f"{owner.token}.json", owner, lease_s=lease_s)
    assert claim is not None, "a name of its own"
    with beating(claim, lease_s=lease_s):
        yield


def is_in_use(job: Path, *, lease_s: float) -> bool:
    """Whether any living process works on a job or publishes it."""
    return any(
        holder_is_alive(claim, lease_s=lease_s) for claim in job.glob("*/[0-9a-f]*.json") if claim.parent.name in {"claims", "present"}
    )
