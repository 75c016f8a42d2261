"""Who works on what: a claim has one holder at a time, outlives no holder, and fences off one that comes back.

A claim is a small file that names its holder. A holder that can be seen from here is dead when its process is; one on another
machine, in another container or from before a restart, when it has not beaten for a lease. Whoever takes over a dead holder's claim replaces the file, so the old holder, should it live on after
all (a machine that slept, a network that broke), no longer finds itself in it and must not publish.
"""

import json
import os
import secrets
import socket
import time
from pathlib import Path
from typing import NamedTuple, Self

import psutil
from filelock import FileLock

BOOT_ID, PROCESSES = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


class Owner(NamedTuple):
    """A process, told apart from any other that ever had its number: `started` is in seconds since its machine was.

    `world` is where its number means something: one run of a machine's kernel, and one container of it.
    """

    host: str
    world: str
    pid: int
    started: float
    token: str

    @classmethod
    def here(cls) -> Self:
        """The process that asks, with a token of its own."""
        boot = BOOT_ID.read_text().strip() if BOOT_ID.exists() else str(psutil.boot_time())
        world = f"{boot} {PROCESSES.readlink()}" if PROCESSES.exists() else boot
        return cls(socket.gethostname(), world, os.getpid(), _started(psutil.Process()), secrets.token_hex(8))


class Claim(NamedTuple):
    """A claim that was taken: its file, and who took it."""

    path: Path
    owner: Owner

    def is_held(self) -> bool:
        """Whether the owner still is the holder; to be asked before anything is published under the claim."""
        return holder(self.path) == self.owner

    def beat(self) -> None:
        """Tell other machines that the owner lives."""
        if self.is_held():
            os.utime(self.path)

    def release(self) -> None:
        """Give the claim back, unless someone else has it by now."""
        with _guard(self.path):
            if self.is_held():
                self.path.unlink()


def take(path: Path, owner: Owner, *, lease_s: float) -> tuple[Claim | None, Owner | None]:
    """The claim, or None where a living owner holds it; and the dead owner from whom it was taken over, if any.

    `lease_s`: seconds without a beat after which an owner on another machine counts as dead.
    """
    path.parent.mkdir(exist_ok=True)  # without parents: a job that was removed must not come back as an empty folder
    written = path.with_name(f".{path.name}.{owner.token}")
    written.write_text(json.dumps(owner._asdict()), encoding="utf-8")
    try:
        os.link(written, path)  # fails where the file exists, and never shows half of it
        return Claim(path, owner), None
    except FileExistsError:
        return _take_over(path, written, owner, lease_s)
    finally:
        written.unlink(missing_ok=True)


def _take_over(path: Path, written: Path, owner: Owner, lease_s: float) -> tuple[Claim | None, Owner | None]:
    with _guard(path):
        before = holder(path)
        if before == owner:  # the answer to its own link was lost on the way
            return Claim(path, owner), None
        if path.exists() and is_alive(path, lease_s=lease_s):
            return None, None
        written.replace(path)
    return Claim(path, owner), before


def holder(path: Path) -> Owner | None:
    """Who holds the claim; None where nobody does, or the file is damaged."""
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def is_alive(path: Path, *, lease_s: float) -> bool:
    """Whether the claim's holder lives, as far as can be told from here."""
    owner, here = holder(path), Owner.here()
    if owner is None:
        return False
    if (owner.host, owner.world) != (here.host, here.world):
        return _age_s(path) < lease_s
    try:
        process = psutil.Process(owner.pid)
        return abs(_started(process) - owner.started) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _age_s(path: Path) -> float:
    """Seconds since the last beat; of a claim that was given back meanwhile, endless."""
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _started(process: psutil.Process) -> float:
    """Seconds from the machine's start to the process's, which do not change when someone sets the clock."""
    return process.create_time() - psutil.boot_time()


def _guard(path: Path) -> FileLock:
    """One process at a time replaces or removes claims of a folder; the lock goes with its process."""
    return FileLock(path.parent / ".guard", timeout=60)
