"""Named points at which `stage chaos` ends or halts a process; without its environment variable they do nothing."""

import os
import signal
from collections import Counter

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
