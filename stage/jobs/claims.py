"""Claims: which process works on what. A claim has one holder; it ends with the holder's process, and a holder that returns
later cannot publish.

A claim is a small file that names its holder. On this machine, a holder is dead when its process has ended. On another machine, in
another container or from before a restart, it is dead when it has sent no heartbeat for a lease. A process that takes over a claim
replaces the file. If the old holder was alive after all (its machine slept, the network broke), it finds another name in the file
and must not publish.
"""

import json
import os
import secrets
import socket
import tempfile
from pathlib import Path
from typing import NamedTuple, Self

import psutil
from filelock import FileLock

from stage.core.processes import boot_id, is_running, started_s

PROCESSES = Path("/proc/self/ns/pid")


class Owner(NamedTuple):
    """A process, distinguished from others that had the same process id. `started`: seconds from its machine's start to its own.

    `world`: the run of the kernel and the container in which its process id is unique.
    """

    host: str
    world: str
    pid: int
    started: float
    token: str

    @classmethod
    def here(cls) -> Self:
        """The calling process, with a new token."""
        boot = boot_id() or str(psutil.boot_time())
        world = f"{boot} {PROCESSES.readlink()}" if PROCESSES.exists() else boot
        return cls(socket.gethostname(), world, os.getpid(), started_s(psutil.Process()), secrets.token_hex(8))


class Claim(NamedTuple):
    """A claim that was taken: its file and its owner."""

    path: Path
    owner: Owner

    def is_held(self) -> bool:
        """Whether the owner still holds the claim. Ask before you publish anything under it."""
        return holder(self.path) == self.owner

    def beat(self) -> None:
        """Send a heartbeat: the file's time of change tells other machines that the owner is alive."""
        if self.is_held():
            os.utime(self.path)

    def release(self) -> None:
        """Give the claim back, unless another process has taken it over."""
        with _guard(self.path):
            if self.is_held():
                self.path.unlink()


def take(path: Path, owner: Owner, *, lease_s: float) -> tuple[Claim | None, Owner | None]:
    """Take a claim. Returns the claim, or None if a living owner holds it, and the dead owner that it was taken over from, if any.

    `lease_s`: seconds without a heartbeat after which an owner on another machine counts as dead.
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
        if before == owner:  # the link succeeded, but its answer was lost
            return Claim(path, owner), None
        if path.exists() and holder_is_alive(path, lease_s=lease_s):
            return None, None
        written.replace(path)
    return Claim(path, owner), before


def holder(path: Path) -> Owner | None:
    """The claim's holder; None if there is none or the file is damaged."""
    try:
        return Owner(**json.loads(path.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def holder_is_alive(path: Path, *, lease_s: float) -> bool:
    """Whether the claim's holder is alive, as far as this machine can tell."""
    owner, here = holder(path), Owner.here()
    if owner is None:
        return False
    if (owner.host, owner.world) != (here.host, here.world):
        return _age_s(path) < lease_s
    return is_running(owner.pid, owner.started)


def _age_s(path: Path) -> float:
    """Seconds since the last heartbeat, by the clock of the disk; infinite if the claim was given back in the meantime.

    Both times come from the disk, which stamps a new file, so the clocks of two machines need not agree.
    """
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".now-") as now:
            return os.fstat(now.fileno()).st_mtime - path.stat().st_mtime
    except FileNotFoundError:
        return float("inf")


def _guard(path: Path) -> FileLock:
    """A lock under which claims of a folder are replaced or removed; it ends with its process."""
    return FileLock(path.parent / ".guard", timeout=60)
