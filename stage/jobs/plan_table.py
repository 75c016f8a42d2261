"""The plan of a job on disk: rows by the thousand, so that neither its writer nor a worker ever holds all of them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stage.core.durable import sync
from stage.jobs.inputs import digest_of
from stage.synthesis.rows import PlanRow
from stage.synthesis.schema import PLAN, PLAN_SCHEMA

BATCHES = "batches.parquet"
AT_ONCE = 4096  # rows, about


def write_plan(rows: Iterable[PlanRow], size: int, folder: Path, *, pixels: Mapping[str, str], inputs: Mapping[str, str]) -> None:
    """Write whole batches of `size` rows, and the batches' keys: digests of their rows, of what they are painted on, and of `inputs`.

    `pixels`: digest of each prepared photograph, by the digest of its file.
    """
    keys: list[str] = []
    with pq.ParquetWriter(folder / PLAN, PLAN_SCHEMA, compression="zstd") as writer:
        for some in chunks(rows, rows_per_group(size)):
            writer.write_table(plan_table(some))
            keys += [batch_key(batch, pixels, inputs) for batch in chunks(some, size)]
    pq.write_table(pa.table({"key": keys}), folder / BATCHES, compression="zstd")
    sync(folder / PLAN)
    sync(folder / BATCHES)


def batch_key(rows: Sequence[PlanRow], pixels: Mapping[str, str], inputs: Mapping[str, str]) -> str:
    """The name under which the spool keeps a batch: the same key, the same bytes."""
    return digest_of([rows, [pixels[row.background_sha256] for row in rows], inputs])


def read_rows(plan: pq.ParquetFile, number: int, size: int) -> list[PlanRow]:
    """The rows of batch `number`, of which a small part of the plan is read."""
    group, first = divmod(number * size, rows_per_group(size))
    return [PlanRow(**row) for row in plan.read_row_group(group).slice(first, size).to_pylist()]


def plan_table(rows: Sequence[PlanRow]) -> pa.Table:
    """Rows as a table."""
    columns = [pa.array(values, field.type) for values, field in zip(zip(*rows, strict=True), PLAN_SCHEMA, strict=True)]
    return pa.Table.from_arrays(columns, schema=PLAN_SCHEMA)


def rows_per_group(size: int) -> int:
    """Rows of a row group: whole batches, about 4096."""
    return max(1, AT_ONCE // size) * size


def chunks(rows: Iterable[PlanRow], size: int) -> Iterator[list[PlanRow]]:
    """Lists of `size` rows, the last one perhaps shorter."""
    left = iter(rows)
    while some := list(islice(left, size)):
        yield some
