"""Removes folders of the spool, in one rename and never under a living process; and finishes works, which removes old ones."""

import secrets
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from stage.core.work import Work, works_in
from stage.jobs.heartbeat import is_in_use

KEPT_WORKS = 4  # finished or unfinished works of a verb and name, the last ones used


def finish(work: Work, *, lease_s: float) -> None:
    """Make the work's draft its result, and remove all but the last few works of its name, except those that a process uses.

    `lease_s`: seconds without a heartbeat after which a process on another machine counts as dead.
    """
    work.finish()
    others = [path for path in works_in(work.folder.parent) if path != work.folder]
    for old in others[: -(KEPT_WORKS - 1)]:
        with suppress(OSError):  # the result is there; an old work that cannot be removed only wastes disk
            remove_unused(old, lease_s=lease_s)


def remove_unused(folder: Path, *, lease_s: float) -> bool:
    """Remove a job or a work, unless a living process uses it or begins to in the meantime; returns whether it is gone."""
    if is_in_use(folder, lease_s=lease_s):
        return False
    with suppress(FileNotFoundError):
        hidden = folder.rename(_hidden(folder))  # at once: half a job would look like a damaged one
        if is_in_use(hidden, lease_s=lease_s) and not folder.exists():
            hidden.rename(folder)
            return False
        _remove_tree(hidden)
    return True


def remove(path: Path) -> None:
    """Remove a folder or a file; what is already gone is no error."""
    with suppress(FileNotFoundError):
        _remove_tree(path.rename(_hidden(path))) if path.is_dir() else path.unlink()


def _hidden(folder: Path) -> Path:
    return folder.with_name(f".{secrets.token_hex(8)}")


def _remove_tree(folder: Path) -> None:
    shutil.rmtree(folder, onerror=_unless_gone)


def _unless_gone(_act: Any, _path: str, reason: Any) -> None:
    if not isinstance(reason[1], FileNotFoundError):
        raise reason[1]
