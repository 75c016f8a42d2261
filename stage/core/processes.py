"""Processes: one that ends with its parent, and named points at which fault injection ends or halts one."""

import ctypes
import os
import signal
import sys
from collections import Counter

PR_SET_PDEATHSIG = 1  # of prctl(2)


def end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent, the process of that id, is gone; at once where it is gone already.

    The kernel means the parent's thread that started this process. Linux alone can do this: elsewhere a killed parent leaves
    its workers to their job.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel was asked
        os.kill(os.getpid(), signal.SIGKILL)


FAULT = "STAGE_FAULT"  # environment variable: `point`, or `point:how often to pass it first:number of the signal`
_reached: Counter[str] = Counter()


def reached(point: str) -> None:
    """Send this process a signal, SIGKILL if no other is told, where the environment variable STAGE_FAULT names `point`."""
    name, _, more = os.environ.get(FAULT, "").partition(":")
    if name == point:
        passes, _, number = more.partition(":")
        _reached[point] += 1
        if _reached[point] == int(passes or 0) + 1:
            os.kill(os.getpid(), int(number or signal.SIGKILL))
