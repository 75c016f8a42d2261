"""Ends the wait for a file system that does not answer, such as a network folder whose server is away."""

import os
import shlex
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial

import psutil

from stage.core.errors import Refusal
from stage.nights.machine import Finding

ANSWER_S = 90.0  # for a check
WITH_SILENT_S = 30.0  # for a check, where a mount does not answer: several may wait for it
STAT_S = 5.0  # for all mounts together
KERNELS = ("/proc/", "/sys/")  # in which no server is, and to look at some of which mounts them


def answers(what: str, look: Callable[[], Iterable[Finding]], silent: Sequence[str], limit_s: float | None = None) -> list[Finding]:
    """The findings of a check, and the refusal or the silence that ended it. `silent`: mounts that do not answer."""
    found, errors = list[Finding](), list[Exception]()
    limit_s = limit_s or (WITH_SILENT_S if silent else ANSWER_S)

    def check() -> None:
        try:
            for one in look():
                found.append(one)  # findings before a refusal are kept
        except Exception as error:  # noqa: BLE001  # raised again below
            errors.append(error)

    if unended({what: check}, limit_s):
        return [*found, _silence(what, limit_s, silent)]
    for error in errors:
        if not isinstance(error, Refusal):
            raise error
        found.append(Finding("fails", what, str(error), "The message says what to do."))
    return found


def _silence(what: str, limit_s: float, silent: Sequence[str]) -> Finding:
    told = f"no answer within {limit_s:g} s"
    if not silent:
        mend = "Run `df` in the folders that nightly.yaml and `.dvc/config` name, and `git ls-remote`: one of them does not answer."
        return Finding("fails", what, told, mend)
    commands = " and ".join(f"`umount --lazy {shlex.quote(one)}`" for one in silent)
    return Finding("fails", what, f"{told}; {' and '.join(silent)} cannot be reached", f"Bring back what serves it, or run {commands}.")


def unended(deeds: Mapping[str, Callable[[], object]], limit_s: float) -> list[str]:
    """The names of the functions that have not returned after `limit_s`; they may not raise.

    Each runs in a thread of its own, which ends with the process, since no other end can be made of such a wait.
    """
    running = {name: threading.Thread(target=deed, daemon=True) for name, deed in deeds.items()}
    for one in running.values():
        one.start()
    deadline = time.monotonic() + limit_s
    for one in running.values():
        one.join(max(0.0, deadline - time.monotonic()))
    return [name for name, one in running.items() if one.is_alive()]


def silent_mounts() -> list[str]:
    """The mount points of this machine that do not answer."""
    places = dict.fromkeys(one.mountpoint for one in psutil.disk_partitions(all=True) if not one.mountpoint.startswith(KERNELS))
    return unended({place: partial(_look, place) for place in places}, STAT_S)


def _look(place: str) -> None:
    with suppress(OSError):  # an error is an answer
        os.statvfs(place)
