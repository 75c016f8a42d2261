"""The processes of `stage chaos`: how they are started, watched and ended."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import torch

from stage.core.durable import refusing_full_disks

PATIENCE_S = 120.0  # for a process that takes a second; after that it counts as hanging
PROCESS_NAME = "stage-chaos"  # the name of every such process


class HangError(RuntimeError):
    """A process did not reach its point in time, or ended before it."""


def spawned(log: Path, act: Callable[..., object], *arguments: object) -> BaseProcess:
    """A process that only runs `act`, with everything imported and without this process's threads and locks.

    It has one torch thread and writes stderr to `log`; an error is its exit code 1.
    """
    context = _context()
    process = context.Process(name=PROCESS_NAME, target=_do, args=(log, act, *arguments), daemon=True)
    process.start()
    return process


def send(process: BaseProcess, number: int) -> None:
    """Send it a signal."""
    assert process.pid is not None, "it was started"
    os.kill(process.pid, number)


def end(process: BaseProcess) -> int:
    """The exit code of a process, once it has ended. Raises HangError if it does not end."""
    process.join(PATIENCE_S)
    if process.exitcode is None:
        process.kill()
        raise HangError(f"expected a process to end within {PATIENCE_S:g} s, found it running")
    return process.exitcode


def end_all() -> None:
    """Kill the processes that are left; a halted one would keep this one from ending."""
    for process in multiprocessing.active_children():
        if process.name == PROCESS_NAME:
            process.kill()
            process.join(PATIENCE_S)


def await_halt(process: BaseProcess) -> None:
    """Return when the process has halted itself at its point."""
    await_that(process, lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED, "a process to halt at its point")


def await_that(process: BaseProcess, is_so: Callable[[], bool], what: str) -> None:
    """Return when `is_so` is true. Raises HangError if that takes too long, or if the process ends first."""
    until = time.monotonic() + PATIENCE_S
    try:
        while not is_so():
            if time.monotonic() > until:
                raise HangError(f"expected {what} within {PATIENCE_S:g} s, found that it did not happen")
            if process.exitcode is not None:
                raise HangError(f"expected {what}, found that it ended first, with exit code {process.exitcode}")
            time.sleep(0.01)
    except psutil.NoSuchProcess:
        raise HangError(f"expected {what}, found that it ended first") from None


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["stage.chaos.preloaded"])
    return context


def _do(log: Path, act: Callable[..., object], *arguments: object) -> None:
    torch.set_num_threads(1)
    with log.open("a", encoding="utf-8") as sys.stderr:
        try:
            with refusing_full_disks():
                act(*arguments)
        except (ValueError, OSError, RuntimeError) as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            sys.exit(1)
