"""Rows of the catalog that are finished, kept in the spool until all are, so that an interrupted `prepare` goes on where it stopped."""

import shutil
from base64 import b64decode, b64encode
from contextlib import suppress
from dataclasses import astuple
from functools import cache
from pathlib import Path

from stage.core.data_params import Prepare
from stage.core.digests import digest_of, file_digest
from stage.core.durable import read_sealed, write_sealed
from stage.core.work import SPOOL, Work, work_key
from stage.datasets.entries import Entry, read_entry
from stage.datasets.folder import FoundFile
from stage.datasets.images import WHOLE_RANGE, GreyRange
from stage.datasets.table import PICTURES

VERB, CODE = "prepare", "stage.datasets.entries:read_entry"


def read_kept(found: FoundFile, root: Path, params: Prepare, *, category: str, group: str, grey: GreyRange = WHOLE_RANGE) -> Entry:
    """What `read_entry` gives; an accepted row is kept under the digest of all that decides it, and found there the next time."""
    folder = _work(category, params.model_dump_json(), grey).folder
    name = _name(found, root, group)
    if name and (entry := _kept(folder / name)):
        return entry
    entry = read_entry(found, root, params, category=category, group=group, grey=grey)
    if name and not entry.reason and _name(found, root, group) == name:  # not what was written to meanwhile
        _keep(entry, folder / name)
    return entry


def forget_kept() -> None:
    """Remove all kept rows, which the published catalogs hold as well."""
    shutil.rmtree(SPOOL / VERB, ignore_errors=True)


@cache
def _work(category: str, params: str, grey: GreyRange) -> Work:
    return Work.of(VERB, category, work_key(CODE, prepare=params, grey=grey))


def _name(found: FoundFile, root: Path, group: str) -> str:
    """The name of the row's file, by its group and the contents of its files; empty if one cannot be read, or may be a pipe."""
    files = (found.image, *found.masks, *found.foregrounds)
    with suppress(OSError):
        return "" if found.reason else f"{digest_of([group, astuple(found), [file_digest(root / path) for path in files if path]])}.json"
    return ""


def _keep(entry: Entry, file: Path) -> None:
    pictures = {name: {**cell, "bytes": b64encode(cell["bytes"] or b"").decode()} for name in PICTURES if (cell := getattr(entry, name))}
    write_sealed({**vars(entry), **pictures}, file)


def _kept(file: Path) -> Entry | None:
    """The kept row; None if there is none, or a damaged one."""
    try:
        values = read_sealed(file)
    except (OSError, ValueError):
        return None
    del values["seal"]
    values |= {name: {**cell, "bytes": b64decode(cell["bytes"])} for name in PICTURES if (cell := values[name])}
    return Entry(**values)
