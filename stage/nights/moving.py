"""Moves one photograph's files out of the drop folder, each to the source or to the files that were set aside; a kill loses none of them."""

import csv
import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path

from stage.core.digests import file_digest
from stage.core.durable import sync, whole_file
from stage.core.errors import DataError
from stage.core.processes import reached
from stage.datasets.walking import shown
from stage.nights.arrivals import HELD, SET_ASIDE, Arrival, is_same

LOG = logging.getLogger(__name__)
REASONS = "reasons.csv"  # beside the files that were set aside
CHANGED = "changed while it was taken in, or the disk gave other bytes back"
NEWER = "another file of that name came while it was taken in"


def move_in(one: Arrival, drop: Path, source: Path, day: date) -> None:
    """Take all files of a photograph out of reach of whoever may replace them, copy those that were judged, and only then delete them.

    What is not deleted is put back; after a kill the next night does so, and completes it.
    """
    LOG.info("take in %s", shown(one.files[0]))
    try:
        held = _hold(one, drop)
        for path, name, digest in zip(held, one.files, one.digests, strict=True):
            _copy(path, source / name, digest)
        for path, digest in zip(held, one.digests, strict=True):
            _expect([path], [digest])  # a program that had it open may have written more
            path.unlink()
            reached("a photograph's file")
    finally:
        put_back([_held(drop / name) for name in one.files], drop, day)


def _hold(one: Arrival, drop: Path) -> list[Path]:
    """Rename the files so that nobody replaces them, and compare them with what was judged. A link stays, since it may be relative."""
    places: list[Path] = []
    try:
        for path in (drop / name for name in one.files):
            places.append(path if path.is_symlink() else _held(path))
            places[-1].parent.mkdir(exist_ok=True)
            path.rename(places[-1])
            reached("a photograph's file")
        _expect(places, one.digests)
    except FileNotFoundError:  # removed, or a link to a file that was
        raise DataError(CHANGED) from None
    return places


def _expect(paths: Sequence[Path], digests: Sequence[str]) -> None:
    if [*map(file_digest, paths)] != [*digests]:
        raise DataError(CHANGED)


def _copy(path: Path, target: Path, digest: str) -> None:
    if is_same(path, target):
        return
    with whole_file(target) as partial:
        shutil.copy2(path, partial)
        _expect([partial], [digest])
        if target.exists():
            raise DataError("a file of that name is there already: rename it")
    reached("a photograph's file")


def _held(path: Path) -> Path:
    return path.parent / HELD / path.name


def put_back(held: Sequence[Path], drop: Path, day: date) -> frozenset[str]:
    """Put back the held files that were not deleted, and return their names; one whose name is taken again is set aside."""
    there = {path.parent.parent / path.name: path for path in held if os.path.lexists(path)}
    for place, path in there.items():
        LOG.info("put back %s", shown(place.relative_to(drop).as_posix()))
        if is_same(path, place):
            path.unlink()
        elif os.path.lexists(place):
            set_aside(Arrival((place.relative_to(drop).as_posix(),), NEWER), drop, day, held=True)
        else:
            path.rename(place)
    for folder in {path.parent for path in held}:
        with suppress(OSError):  # not empty, or never made
            folder.rmdir()
    return frozenset(place.relative_to(drop).as_posix() for place in there)


def set_aside(one: Arrival, drop: Path, day: date, *, held: bool = False) -> None:
    """Set the files aside; the reasons are written first, so that no file is ever there without one."""
    LOG.info("set aside %s", shown(one.files[0]))
    folder = drop / SET_ASIDE / day.isoformat()
    places = [_free(folder / name) for name in one.files]
    folder.mkdir(parents=True, exist_ok=True)
    _note(folder / REASONS, [(place.relative_to(folder).as_posix(), one.reason, one.detail) for place in places])
    for path, place in zip((drop / name for name in one.files), places, strict=True):
        place.parent.mkdir(parents=True, exist_ok=True)
        (_held(path) if held else path).rename(place)
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
