"""Ends a flow when its owner, the `dvc` that started it, is killed; otherwise the command and its shell would go on."""

import os
import signal
import threading
import time
from pathlib import Path

import psutil

POLL_S = 0.5
GRACE_S = 10.0  # for an orphaned flow to reach a consistent state


def owner() -> psutil.Process:
    """The nearest `dvc` above this process, or this process if there is none."""
    me = psutil.Process()
    return next((process for process in me.parents() if _is_dvc(process)), me)


def end_with_owner() -> None:
    """Ask this process to stop between two steps when its `dvc` is gone, and kill it after a grace period.

    Asking the kernel (PR_SET_PDEATHSIG) is not enough: between `dvc` and its command there may be a shell, which lives on.
    """
    process = owner()
    if process.pid != os.getpid():
        threading.Thread(target=_follow, args=(process,), daemon=True).start()


def _follow(process: psutil.Process) -> None:
    while is_alive(process):
        time.sleep(POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_S)
    os.kill(os.getpid(), signal.SIGKILL)


def is_alive(process: psutil.Process) -> bool:
    """Whether a process is alive, or the system cannot tell at the moment."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:  # it ended between the two questions
        return False
    except (psutil.Error, OSError):
        return True


def _is_dvc(process: psutil.Process) -> bool:
    try:
        return any(Path(word).name == "dvc" for word in process.cmdline()[:3])
    except psutil.Error:
        return False
