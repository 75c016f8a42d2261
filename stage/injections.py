"""The harm that `stage chaos` does. Every function takes a trial, does its harm, and says whether it was noticed."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from stage.claims import Owner, is_alive
from stage.trials import LEASE_S, Trial, await_halt, await_that, end

MAKING = ("before_write", "after_write", "after_fsync", "after_rename")  # once per batch
PUBLISHING = ("before_manifest", "before_publish")
FILES = {
    "batch in the spool": "spool/batches/*/*.parquet",
    "job": "spool/jobs/*/[!.]*.*",
    "published shard": "published/shards/*",
    "published table": "published/*.parquet",
    "manifest": "published/manifest.json",
}
STALE: dict[str, Callable[[Owner], Owner | None]] = {
    "of a process that is gone": lambda here: here._replace(started=here.started - 1000),
    "from before a restart": lambda here: here._replace(boot="earlier"),
    "of a silent machine": lambda here: here._replace(host="elsewhere"),
    "half written": lambda _: None,
}
Harm = Callable[[Trial], bool]


class Injection(NamedTuple):
    """A fault, where it happens, and how it is done; `is_late`: to a trial in which everything is made and published."""

    fault: str
    place: str
    harm: Harm
    is_late: bool = False


def injections() -> list[Injection]:
    """Every place with every fault that fits it."""
    return [
        *(Injection("killed", point, _kill(point)) for point in MAKING),
        *(Injection("killed", point, _kill(point), is_late=True) for point in PUBLISHING),
        *(Injection("killed beside another", point, _kill_beside(point)) for point in MAKING),
        *(Injection("taken for dead, lives on", point, _survive(point)) for point in MAKING[:-1]),  # after it there is nothing to prevent
        Injection("two samplers at once", "whole run", _two),
        Injection("disk full", "batch", _fill("spool/batches/*/*.parquet")),
        Injection("disk full", "publication", _fill("published/shards/*"), is_late=True),
        *(Injection("stale lock", kind, _leave_locks(holder)) for kind, holder in STALE.items()),
        *(Injection("file truncated", place, _damage(pattern, _truncate), is_late=True) for place, pattern in FILES.items()),
        *(Injection("bit flipped", place, _damage(pattern, _flip), is_late=True) for place, pattern in FILES.items()),
    ]


def _kill(point: str) -> Harm:
    def harm(trial: Trial) -> bool:
        if point in PUBLISHING:
            shutil.rmtree(trial.output)
        fault = _at(point, trial) if point in MAKING else point
        return end(trial.start(fault)) == -signal.SIGKILL and not trial.is_complete()

    return harm


def _kill_beside(point: str) -> Harm:
    """The other must do the dead one's batch too, without being asked again."""

    def harm(trial: Trial) -> bool:
        first = trial.start(_at(point, trial, signal.SIGSTOP))
        await_halt(first)
        second = trial.start()
        await_that(lambda: _left(trial) == 1, "the other worker to make all other batches")
        first.kill()
        return (end(first), end(second)) == (-signal.SIGKILL, 0) and _deaths(trial) == 1

    return harm


def _survive(point: str) -> Harm:
    """A machine elsewhere takes the claim over, and falls silent in its turn: the first one's result must not be kept."""

    def harm(trial: Trial) -> bool:
        first = trial.start(_at(point, trial, signal.SIGSTOP))
        await_halt(first)
        (claim,) = (trial.job.folder / "claims").glob("[0-9]*.json")
        _write_claim(claim, Owner.here()._replace(host="elsewhere"))
        os.kill(first.pid or 0, signal.SIGCONT)
        return end(first) == 0 and _deaths(trial) == 1

    return harm


def _two(trial: Trial) -> bool:
    """While one holds a batch, the other makes all but that, and waits."""
    first = trial.start(_at("before_write", trial, signal.SIGSTOP))
    await_halt(first)
    second = trial.start()
    await_that(lambda: _left(trial) == 1, "the other worker to make all other batches")
    is_waiting = second.exitcode is None
    os.kill(first.pid or 0, signal.SIGCONT)
    return is_waiting and (end(first), end(second)) == (0, 0) and _deaths(trial) == 0


def _fill(pattern: str) -> Harm:
    """No file can be written to its end, of those that are as large as the smallest of the pattern."""

    def harm(trial: Trial) -> bool:
        shutil.rmtree(trial.output, ignore_errors=True)
        smallest = min(path.stat().st_size for path in trial.finished.glob(pattern))
        return end(trial.start(most_bytes=int(trial.random.integers(smallest)))) == 1 and not trial.is_complete()

    return harm


def _leave_locks(holder: Callable[[Owner], Owner | None]) -> Harm:
    def harm(trial: Trial) -> bool:
        job = trial.job
        claims = [job.claim(batch.number) for batch in job.batches()]
        for claim in claims:
            _write_claim(claim, holder(Owner.here()))
        return not any(is_alive(claim, lease_s=LEASE_S) for claim in claims) and end(trial.start()) == 0

    return harm


def _damage(pattern: str, how: Callable[[bytes, int], bytes]) -> Harm:
    """`how` is given the bytes of a file, and the place of one of its bits."""

    def harm(trial: Trial) -> bool:
        files = sorted(trial.root.glob(pattern))
        file = files[int(trial.random.integers(len(files)))]
        content = file.read_bytes()
        file.write_bytes(how(content, int(trial.random.integers(8 * len(content)))))
        return not trial.is_complete()

    return harm


def _truncate(content: bytes, bit: int) -> bytes:
    return content[: bit // 8]


def _flip(content: bytes, bit: int) -> bytes:
    place = bit // 8
    return content[:place] + bytes([content[place] ^ 1 << bit % 8]) + content[place + 1 :]


def _at(point: str, trial: Trial, number: int = signal.SIGKILL) -> str:
    """A fault at a point, when a batch chosen by chance gets there; never the last one, so that there is work for others."""
    return f"{point}:{int(trial.random.integers(len(trial.job.batches()) - 1))}:{int(number)}"


def _left(trial: Trial) -> int:
    job = trial.job
    return sum(not job.spool.is_there(batch.key) for batch in job.batches())


def _deaths(trial: Trial) -> int:
    return len([*(trial.job.folder / "deaths").glob("*/*.json")])


def _write_claim(claim: Path, owner: Owner | None) -> None:
    """Somebody's, of long ago; half of one where nobody is named."""
    claim.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps((owner or Owner.here())._asdict())
    new = claim.with_name(".written")
    new.write_text(text if owner else text[: len(text) // 2], encoding="utf-8")
    os.utime(new, (0, 0))
    new.replace(claim)
