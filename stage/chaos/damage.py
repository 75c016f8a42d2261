"""Faults of files and disks for `stage chaos`: damaged files, full disks, stale locks."""

import errno
import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from stage.chaos.processes import end
from stage.chaos.small_disk import PAGE, limit_files, mount_small_disk
from stage.chaos.trials import LEASE_S, OUTPUT, Harm, Trial
from stage.core.errors import MachineError
from stage.jobs.claims import Owner, holder_is_alive


class Disk(NamedTuple):
    """A folder that a small disk is mounted over, and the files written there."""

    folder: str
    files: str


DISKS = {
    "batch": Disk("spool/batches", "*/*.parquet"),
    "publication": Disk(str(OUTPUT.parent), "*/shards/*"),
}
FILES = {
    "batch in the spool": "spool/batches/*/*.parquet",
    "sidecar in the spool": "spool/batches/*/*.json",
    "job": "spool/jobs/*/[!.]*.*",
    "published shard": f"{OUTPUT}/shards/*",
    "published table": f"{OUTPUT}/*.parquet",
    "manifest": f"{OUTPUT}/manifest.json",
}
STALE: dict[str, Callable[[Owner], Owner | None]] = {
    "of a process that is gone": lambda here: here._replace(started=here.started - 1000),
    "from before a restart": lambda here: here._replace(world="earlier"),
    "of a silent machine": lambda here: here._replace(host="elsewhere"),
    "half written": lambda _: None,
}


def fill(place: str) -> Harm:
    """Fill a disk until its smallest file does not fit. The error must say so, and no batch may count as failed."""
    disk = DISKS[place]

    def harm(trial: Trial) -> bool:
        shutil.rmtree(trial.output, ignore_errors=True)
        pages = trial.random.integers((_smallest(trial, disk) - 1) // PAGE + 1)
        status = end(trial.start(limit=partial(mount_small_disk, trial.root / disk.folder, int(pages))))
        told, _, error = _last_line(trial).partition(": ")
        is_told = told == MachineError.__name__ and f"[Errno {errno.ENOSPC}]" in error
        return status == 1 and is_told and not [*trial.job.folder.glob("failures/*/*")] and not trial.is_complete()

    return harm


def refuse(place: str) -> Harm:
    """Limit the size of files below that of the smallest file to be written."""

    def harm(trial: Trial) -> bool:
        shutil.rmtree(trial.output, ignore_errors=True)
        limit = partial(limit_files, int(trial.random.integers(_smallest(trial, DISKS[place]))))
        return end(trial.start(limit=limit, log=Path(os.devnull))) == 1 and not trial.is_complete()

    return harm


def leave_locks(kind: str) -> Harm:
    """Claim every batch for a process that does not exist. A worker must not wait for it."""

    def harm(trial: Trial) -> bool:
        job = trial.job
        claims = [job.claim(batch.number) for batch in job.batches()]
        for claim in claims:
            write_claim(claim, STALE[kind](Owner.here()))
        return not any(holder_is_alive(claim, lease_s=LEASE_S) for claim in claims) and end(trial.start()) == 0

    return harm


def truncate(place: str) -> Harm:
    """Truncate a file at a random place."""
    return _damage(FILES[place], lambda content, bit: content[: bit // 8])


def flip(place: str) -> Harm:
    """Flip a random bit of a file."""
    return _damage(FILES[place], flipped)


def flipped(content: bytes, bit: int) -> bytes:
    """The same bytes with one bit flipped."""
    place = bit // 8
    return content[:place] + bytes([content[place] ^ 1 << bit % 8]) + content[place + 1 :]


def write_claim(claim: Path, owner: Owner | None) -> None:
    """Write an owner's claim without a recent heartbeat; half of its text if `owner` is None."""
    claim.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps((owner or Owner.here())._asdict())
    new = claim.with_name(".written")
    new.write_text(text if owner else text[: len(text) // 2], encoding="utf-8")
    os.utime(new, (0, 0))
    new.replace(claim)


def _damage(pattern: str, how: Callable[[bytes, int], bytes]) -> Harm:
    """Damage a random file; `how` gets its bytes and the place of one of its bits."""

    def harm(trial: Trial) -> bool:
        files = sorted(trial.root.glob(pattern))
        file = files[int(trial.random.integers(len(files)))]
        content = file.read_bytes()
        file.write_bytes(how(content, int(trial.random.integers(8 * len(content)))))
        return not trial.is_complete()

    return harm


def _smallest(trial: Trial, disk: Disk) -> int:
    """Bytes of the smallest file that a disk is to hold."""
    return min(path.stat().st_size for path in (trial.finished / disk.folder).glob(disk.files))


def _last_line(trial: Trial) -> str:
    return trial.log.read_text(encoding="utf-8").rstrip().rpartition("\n")[2]
