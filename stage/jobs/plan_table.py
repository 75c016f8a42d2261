"""The plan of a job on disk: row groups of thousands, so that neither its writer nor a worker holds all rows."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from stage.core.digests import digest_of
from stage.core.durable import sync
from stage.synthesis.rows import PlanRow
from stage.synthesis.schema import PLAN, PLAN_SCHEMA

BATCHES = "batches.parquet"
AT_ONCE = 4096  # rows of a row group, about


class BatchEntry(NamedTuple):
    """A batch: its key in the store, where its rows are in the plan, and how many of them, from the first, are published."""

    key: str
    group: int
    first: int
    rows: int
    published: int


def write_plan(
    batches: Iterable[Sequence[PlanRow]],
    folder: Path,
    *,
    count_of: Callable[[str], int],
    pixels: Mapping[str, str],
    inputs: Mapping[str, str],
) -> None:
    """Write batches of rows, and an entry for each; rows of an ordinal from `count_of` their defect type on are not published.

    A batch's key is the digest of its rows, of their background and source pixels, and of `inputs`. `pixels`: digest of each
    prepared photograph, by the digest of its file.
    """
    entries: list[BatchEntry] = []
    with pq.ParquetWriter(folder / PLAN, PLAN_SCHEMA, compression="zstd") as writer:
        for group, some in enumerate(_groups(batches)):
            writer.write_table(plan_table([row for batch in some for row in batch]))
            first = 0
            for batch in some:
                published = sum(row.ordinal < count_of(row.defect) for row in batch)
                entries.append(BatchEntry(batch_key(batch, pixels, inputs), group, first, len(batch), published))
                first += len(batch)
    columns = zip(*entries, strict=True) if entries else [[]] * len(BatchEntry._fields)
    pq.write_table(pa.table(dict(zip(BatchEntry._fields, map(list, columns), strict=True))), folder / BATCHES, compression="zstd")
    sync(folder / PLAN)
    sync(folder / BATCHES)


def batch_key(rows: Sequence[PlanRow], pixels: Mapping[str, str], inputs: Mapping[str, str]) -> str:
    """The name under which the store keeps a batch: the same key, the same bytes."""
    painted = [[pixels[row.background_sha256], pixels.get(row.source_sha256, "")] for row in rows]
    return digest_of([rows, painted, inputs])


def read_entries(folder: Path) -> list[BatchEntry]:
    """The batches of a job's folder, in the order of the plan."""
    return [BatchEntry(**row) for row in pq.read_table(folder / BATCHES).to_pylist()]


def read_rows(plan: pq.ParquetFile, entry: BatchEntry) -> list[PlanRow]:
    """The rows of a batch, for which one row group of the plan is read."""
    return [PlanRow(**row) for row in plan.read_row_group(entry.group).slice(entry.first, entry.rows).to_pylist()]


def plan_table(rows: Sequence[PlanRow]) -> pa.Table:
    """Rows as a table."""
    columns = [pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), PLAN_SCHEMA, strict=True)]
    return pa.Table.from_arrays(columns, schema=PLAN_SCHEMA)


def _groups(batches: Iterable[Sequence[PlanRow]]) -> Iterator[list[Sequence[PlanRow]]]:
    """Whole batches, about 4096 rows at a time."""
    some: list[Sequence[PlanRow]] = []
    for batch in batches:
        if some and sum(map(len, some)) + len(batch) > AT_ONCE:
            yield some
            some = []
        some.append(batch)
    if some:
        yield some
