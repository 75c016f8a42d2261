"""Rows of the catalog that are finished, kept in the spool until all are, so that an interrupted `prepare` goes on where it stopped."""

import shutil
from contextlib import suppress
from dataclasses import astuple
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stage.core.data_params import Prepare
from stage.core.digests import digest_of, file_digest
from stage.core.durable import whole_file
from stage.core.work import SPOOL, Work, work_key
from stage.datasets.columns import schema
from stage.datasets.entries import Entry, read_entry
from stage.datasets.folder import FoundFile
from stage.datasets.images import WHOLE_RANGE, GreyRange
from stage.datasets.table import COLUMNS

VERB, CODE = "prepare", "stage.datasets.entries:read_entry"


def read_kept(found: FoundFile, root: Path, params: Prepare, *, category: str, group: str, grey: GreyRange = WHOLE_RANGE) -> Entry:
    """What `read_entry` gives; an accepted row is kept under the digest of all that decides it, and found there the next time."""
    folder = _work(category, params.model_dump_json(), grey).folder
    name = _name(found, root, group)
    if name and (row := _row(folder / name)):
        return Entry(**row)
    entry = read_entry(found, root, params, category=category, group=group, grey=grey)
    if name and not entry.reason and _name(found, root, group) == name:  # not what was written to meanwhile
        row = {column: getattr(entry, column) for column in COLUMNS}
        with whole_file(folder / name) as partial:
            pq.write_table(pa.Table.from_pylist([row], schema=schema(COLUMNS)), partial, write_page_checksum=True)
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
        return "" if found.reason else f"{digest_of([group, astuple(found), [file_digest(root / path) for path in files if path]])}.parquet"
    return ""


def _row(file: Path) -> dict[str, Any] | None:
    """The values of a kept row; None if there is none, or a damaged one."""
    try:
        (row,) = pq.read_table(file, page_checksum_verification=True).drop_columns("status").to_pylist()
    except (OSError, pa.ArrowException, ValueError, KeyError):
        return None
    return row
