"""Moves new photographs from the drop folder to the folder that `prepare` reads. No file there is ever overwritten or incomplete."""

import csv
import os
import re
import shutil
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import NamedTuple

from stage.core.durable import sync, whole_file
from stage.core.errors import ConfigError, DataError, MachineError
from stage.core.params import Params
from stage.core.processes import reached
from stage.datasets.layouts import data_root
from stage.datasets.walking import walk
from stage.nights.arrivals import SET_ASIDE, Arrival, Drop, is_same, printable

PARTIAL = re.compile(r"\.[0-9a-f]{16}\.partial")
REASONS = "reasons.csv"  # beside the files that were set aside


class Intake(NamedTuple):
    """The drop folder's files by their fate."""

    taken_in: list[str]
    set_aside: list[dict[str, str]]
    waiting: list[dict[str, str]]


def take_in(drop: Path, params: Params, settle_s: float, day: date) -> Intake:
    """Move usable files to `prepare.source`, and unusable ones to `set-aside/<day>` in the drop folder; the rest waits.

    Raises ConfigError if the source cannot take photographs in, MachineError if a disk cannot.
    """
    drop.mkdir(parents=True, exist_ok=True)
    if params.prepare.layout == "demo":
        return Intake([], [], [])  # drawn by code
    source = _source(params)
    for path in walk(source):
        if PARTIAL.fullmatch(path.name):  # what a killed night was copying
            path.unlink()
    found = Drop(drop, source, params, settle_s).arrivals()
    taken: list[str] = []
    aside = [one for one in found if one.reason and not one.waits]
    for one in (one for one in found if not one.reason):
        try:
            _move_in(one, drop, source)
            taken += one.files
        except DataError as error:
            aside.append(one._replace(reason=error.reason, detail=error.detail))
        except OSError as error:
            raise MachineError(
                f"Expected to copy {', '.join(one.files)} into {source}, found {error.strerror}. Mend that; they are still in {drop}."
            ) from None
    for one in aside:
        _set_aside(one, drop, day)
    return Intake(taken, [*map(printable, aside)], [printable(one) for one in found if one.waits])


def _source(params: Params) -> Path:
    source = Path(params.prepare.source)
    if not source.is_absolute() or not source.is_dir():
        raise ConfigError(
            f"Expected the absolute path of a folder in prepare.source, since the night works in a worktree of its own, found {params.prepare.source}. "
            "Run `stage use-data <folder>`, and commit params.yaml."
        )
    return data_root(source, params.prepare.layout, params.categories[0])


def _move_in(one: Arrival, drop: Path, source: Path) -> None:
    """Copy all files of a photograph, and only then remove them from the drop folder; after a kill in between, the next night completes it."""
    for name in one.files:
        target = source / name
        if is_same(drop / name, target):
            continue
        with whole_file(target) as partial:
            shutil.copy2(drop / name, partial)
            if not is_same(drop / name, partial):
                raise DataError("it changed while it was copied, or the disk gave other bytes back: bring it again")
            if target.exists():
                raise DataError("a file of that name is there already: rename it")
        reached("a photograph's file")
    for name in one.files:
        (drop / name).unlink()
        reached("a photograph's file")


def _set_aside(one: Arrival, drop: Path, day: date) -> None:
    """Set the files aside; the reasons are written first, so that no file is ever there without one."""
    folder = drop / SET_ASIDE / day.isoformat()
    places = [_free(folder / name) for name in one.files]
    folder.mkdir(parents=True, exist_ok=True)
    _note(folder / REASONS, [(place.relative_to(folder).as_posix(), one.reason, one.detail) for place in places])
    for name, place in zip(one.files, places, strict=True):
        place.parent.mkdir(parents=True, exist_ok=True)
        (drop / name).rename(place)
        sync(place.parent)


def _note(path: Path, rows: Sequence[tuple[str, str, str]]) -> None:
    is_new = not path.exists()
    with path.open("a", encoding="utf-8", errors="backslashreplace", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([("file", "reason", "detail")] * is_new + [*rows])
    sync(path)


def _free(path: Path) -> Path:
    """The path, or one with a number if the path exists."""
    number = 1
    place = path
    while os.path.lexists(place):
        number += 1
        place = path.with_name(f"{path.stem}.{number}{path.suffix}")
    return place
