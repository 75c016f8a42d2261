"""Processes: recognising one again, starting it faster, ending it with its parent, and points at which fault injection ends or halts it."""

import ctypes
import gc
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import psutil

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
PR_SET_PDEATHSIG = 1  # of prctl(2)
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # of mallopt(3)


def started_s(process: psutil.Process) -> float:
    """When a process started, in seconds after the machine's start; setting the clock does not change it. Raises psutil.Error."""
    return process.create_time() - psutil.boot_time()


def boot_id() -> str:
    """An identifier of the machine's last start; empty where the system does not give one."""
    return BOOT_ID.read_text(encoding="utf-8").strip() if BOOT_ID.exists() else ""


def is_running(pid: int, started: float) -> bool:
    """Whether a process with this id and this `started_s` is alive; another one may have the same id later."""
    try:
        process = psutil.Process(pid)
        # Less than a second apart: the two times that the kernel gives are rounded, each in its own way.
        return abs(started_s(process) - started) < 1 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def collect_rarely() -> None:
    """Collect garbage in this process after 5,000 new objects instead of 700. Nearly all objects that imports create stay alive,
    and scanning them repeatedly takes a fifth of the imports' time. With 50,000, memory would grow during work.
    """
    gc.set_threshold(5_000)


def keep_memory() -> None:
    """Have this process keep the memory that it frees, for what it needs next; without effect where the C library is not glibc.

    Otherwise every tensor of a few MiB goes back to the kernel, which clears its pages anew for the next one: a sixth of a training's
    time on the CPU or more (`python -m benchmarks.segmenter`). The process keeps its peak memory until it ends.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(M_MMAP_MAX, 0)  # from the heap, however large
        mallopt(M_TRIM_THRESHOLD, -1)  # and the heap never shrinks


def end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent, the process of that id, is gone; immediately if the parent is already gone.

    For the kernel, the parent is the thread that started this process. Only Linux can do this: elsewhere the workers of a killed
    parent go on.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel was asked
        os.kill(os.getpid(), signal.SIGKILL)


FAULT = "STAGE_FAULT"  # environment variable: `point`, or `point:how often to pass it first:number of the signal`
_reached: Counter[str] = Counter()


def reached(point: str) -> None:
    """Send this process a signal if the environment variable STAGE_FAULT names `point`: the one it names, else SIGKILL."""
    name, _, more = os.environ.get(FAULT, "").partition(":")
    if name == point:
        passes, _, number = more.partition(":")
        _reached[point] += 1
        if _reached[point] == int(passes or 0) + 1:
            os.kill(os.getpid(), int(number or signal.SIGKILL))
