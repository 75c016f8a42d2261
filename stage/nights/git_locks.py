"""Locks that a killed git left in a repository, and which of them nobody can hold any more."""

from pathlib import Path
from time import time

import psutil

# No name of a reference can end in `.lock`. The first four kinds stop a night's git; the index's lock belongs to somebody's checkout.
SHARED = ("packed-refs.lock", "config.lock", "shallow.lock", "refs/**/*.lock")
OTHERS = ("*.lock", "worktrees/*/*.lock")
OLD_S = 3600.0  # no call of git on another machine that shares the folder holds such a lock for so long


def shared_locks(folder: Path) -> list[Path]:
    """The locks in a folder `.git` that keep a night's git from its work."""
    return sorted(lock for name in SHARED for lock in folder.glob(name))


def other_locks(folder: Path) -> list[Path]:
    """All others there: those of a checkout, and of the night's worktree, which each night removes."""
    return sorted({lock for name in OTHERS for lock in folder.glob(name)} - {*shared_locks(folder)})


def is_old(lock: Path) -> bool:
    """Whether it is too old for a running git to need it; false if it is gone."""
    try:
        return time() - lock.stat().st_mtime > OLD_S
    except FileNotFoundError:
        return False


def is_abandoned(lock: Path) -> bool:
    """Whether an old lock is from before the machine's start, so that whoever held it is gone. A container's start is not the machine's."""
    return is_old(lock) and lock.stat().st_mtime < psutil.boot_time()


def remove_abandoned(folder: Path) -> list[Path]:
    """Remove the abandoned locks that keep a night's git from its work; returns them."""
    gone = [lock for lock in shared_locks(folder) if is_abandoned(lock)]
    for lock in gone:
        lock.unlink(missing_ok=True)
    return gone
