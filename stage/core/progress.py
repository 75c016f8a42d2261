"""Progress displays with an ETA for long loops, which stop between two steps when asked to."""

import signal
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Item = TypeVar("Item")
LINE_EVERY_S = 10.0
_stop = {"requested": False}


class Interrupted(Exception):
    """A loop was asked to stop and stopped between two steps, so its state is consistent."""


def stop_on_signals() -> None:
    """Let SIGINT and SIGTERM stop the running `track` loop between two steps; a second signal ends at once."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _request_stop)


def _request_stop(number: int, _frame: object) -> None:
    _stop["requested"] = True
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)


def track(items: Iterable[Item], *, total: int, label: str, done: int = 0) -> Iterator[Item]:
    """Yield `items` under a progress display of `done` to `total`; raises `Interrupted` between two of them.

    A terminal gets a bar, anything else a line every ten seconds.
    """
    show = _bar if sys.stderr.isatty() else _lines
    for item in show(items, total=total, label=label, done=done):
        check_stop()
        yield item


def check_stop() -> None:
    """Raise `Interrupted` if a stop was requested; for places between two steps that no loop covers."""
    if _stop["requested"]:
        _stop["requested"] = False
        raise Interrupted


def _bar(items: Iterable[Item], *, total: int, label: str, done: int) -> Iterator[Item]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("ETA"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        row = progress.add_task(label, total=total, completed=done)
        for item in items:
            yield item
            progress.advance(row)


def _lines(items: Iterable[Item], *, total: int, label: str, done: int) -> Iterator[Item]:
    started = spoken = time.monotonic()
    _say(f"{label}: {done}/{total}")
    for count, item in enumerate(items, 1):
        yield item
        now = time.monotonic()
        if now - spoken > LINE_EVERY_S or done + count == total:
            spoken = now
            left = (now - started) / count * (total - done - count)
            _say(f"{label}: {done + count}/{total}, {now - started:.0f} s, ETA {left:.0f} s")


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
