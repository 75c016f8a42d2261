"""Moves new photographs from the drop folder to the folder that `prepare` reads. No file there is ever overwritten or incomplete."""

import re
from collections.abc import Generator
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import NamedTuple

from stage.core.errors import ConfigError, DataError, MachineError
from stage.core.params import Params
from stage.datasets.layouts import data_root
from stage.datasets.walking import walk
from stage.nights.arrivals import HELD, INCOMPLETE, Drop, row_of
from stage.nights.moving import move_in, put_back, set_aside

PARTIAL = re.compile(r"\.[0-9a-f]{16}\.partial")


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
    with _on_disk("put back what a killed night was copying", drop):
        restored = put_back([path for path in walk(drop) if path.parent.name == HELD], drop, day)
    found = Drop(drop, source, params, settle_s, restored).arrivals()
    taken: list[str] = []
    left = [one for one in found if one.reason]
    for one in (one for one in found if not one.reason):
        try:
            with _on_disk(f"copy {', '.join(one.files)} into {source}", drop):
                move_in(one, drop, source, day)
            taken += one.files
        except DataError as error:
            left.append(one._replace(reason=error.reason, detail=error.detail, waits=error.reason.startswith(INCOMPLETE)))
    aside, waiting = ([one for one in left if one.waits is waits] for waits in (False, True))
    for one in aside:
        with _on_disk(f"set {', '.join(one.files)} aside: {one.reason}", drop):
            set_aside(one, drop, day)
    return Intake(taken, [*map(row_of, aside)], [*map(row_of, waiting)])


@contextmanager
def _on_disk(deed: str, drop: Path) -> Generator[None]:
    """Turn an error of the disk into a MachineError; `deed` says what was expected."""
    try:
        yield
    except OSError as error:
        raise MachineError(
            f"Expected to {deed}, found {error.strerror} ({error.filename or drop}). Mend that; the files are still in {drop}."
        ) from None


def _source(params: Params) -> Path:
    source = Path(params.prepare.source)
    if not source.is_absolute() or not source.is_dir():
        raise ConfigError(
            f"Expected the absolute path of a folder in prepare.source, since the night works in a worktree of its own, found {params.prepare.source}. "
            "Run `stage use-data <folder>`, and commit params.yaml."
        )
    return data_root(source, params.prepare.layout, params.categories[0])
