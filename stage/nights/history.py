"""Removes the oldest of what nights leave behind: records, logs and evidence of each, and the logs of the server and the worker."""

import os
import re
import shutil
from pathlib import Path

from stage.nights.record import read_records
from stage.nights.schedule import SERVICES
from stage.nights.settings import Nightly, Places

NIGHT = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d")  # the name of a record and of the folder beside it


def old_nights(nights: Path, count: int) -> list[str]:
    """The names of the nights that are not among the newest `count`; without those whose end nobody has recorded yet."""
    names = sorted({path.stem for path in nights.glob("*") if NIGHT.fullmatch(path.stem)})
    return sorted({*names[:-count]} - {one.id for one in read_records(nights) if one.ended is None})


def long_logs(home: Path, size: int) -> list[Path]:
    """The logs of the server and the worker that are longer than so many bytes."""
    logs = (home / f"{name}.log" for name in SERVICES)
    return [log for log in logs if log.is_file() and log.stat().st_size > size]


def forget(places: Places, settings: Nightly, *, dry_run: bool) -> tuple[list[str], list[str]]:
    """Remove what `settings` does not keep; returns the names of the nights, and of the logs that are shortened. `dry_run`: change nothing."""
    size = round(settings.keep_log_mb * 1e6)
    nights, logs = old_nights(places.nights, settings.keep_nights), long_logs(places.home, size)
    if not dry_run:
        for name in nights:
            shutil.rmtree(places.nights / name, ignore_errors=True)
            (places.nights / f"{name}.json").unlink(missing_ok=True)
        for log in logs:
            _shorten(log, size)
    return nights, [log.name for log in logs]


def _shorten(log: Path, size: int) -> None:
    """Keep the last lines, in the same file, since a process has it open and appends; what it writes at this moment may be lost."""
    with log.open("rb+") as file:
        file.seek(-size, os.SEEK_END)
        line = file.readline()
        rest = file.read() or line  # the end of a line that is longer than what stays
        file.seek(0)
        file.write(rest)
        file.truncate()
