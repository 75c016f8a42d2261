"""The columns of a sample: plan row, verdict, origin, and pixels as PNG. Schema version 3, described in docs/data.md."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stage.datasets.columns import INTEGER, INTEGERS, NUMBER, STRING, Columns, schema
from stage.datasets.images import pixel_digest
from stage.datasets.pairs import ROW_GROUP, Pair, image_cell, image_columns
from stage.synthesis.marking import mark
from stage.synthesis.rows import Origin, PlanRow, TypeRecord, Verdict

SCHEMA_VERSION = "3"
MANIFEST, SHARDS = "manifest.json", "shards"
PLAN, SOURCES, CHECKPOINTS, CARD = "plan.parquet", "sources.parquet", "checkpoints.parquet", "README.md"  # beside the shards
VERDICT = "verdict.parquet"  # beside the shards
RUNS = "runs.parquet"  # in a folder of its own
_KINDS = {str: STRING, int: INTEGER, float: NUMBER, tuple[int, ...]: INTEGERS}
_RECORDS = (PlanRow, Verdict, Origin)
COLUMNS: Columns = (
    {name: _KINDS[kind] for record in _RECORDS for name, kind in record.__annotations__.items()}
    | {"image_digest": STRING}
    | image_columns()
)
# The schema's metadata tell `datasets` which columns are pictures, and every reader the version.
SCHEMA = schema(COLUMNS).with_metadata({**(schema(COLUMNS).metadata or {}), b"schema_version": SCHEMA_VERSION.encode()})
PLAN_SCHEMA = schema({name: _KINDS[kind] for name, kind in PlanRow.__annotations__.items()})
_TEXTS = ("path", "sha256", "image_digest", "kind", "category", "defect", "split", "group", "licence", "role")
SOURCE_SCHEMA = pa.schema([(name, pa.string()) for name in _TEXTS])
CHECKPOINT_SCHEMA = pa.schema(
    [*((name, pa.string()) for name in ("digest", "kind", "category", "base", "facts")), ("sources", pa.list_(pa.string()))]
)
VERDICT_SCHEMA = schema({name: _KINDS[kind] for name, kind in TypeRecord.__annotations__.items()})
TABLES = {PLAN: PLAN_SCHEMA, SOURCES: SOURCE_SCHEMA, CHECKPOINTS: CHECKPOINT_SCHEMA, VERDICT: VERDICT_SCHEMA}
_TOLD = [name if name != "timesteps" else "timesteps.list.element" for name in COLUMNS if name not in ("image", "mask")]
_COMPRESSION = dict.fromkeys(_TOLD, "zstd") | {f"{name}.{part}": "none" for name in ("image", "mask") for part in ("bytes", "path")}


def sample_row(row: PlanRow, sample: Pair, verdict: Verdict, origin: Origin) -> dict[str, Any]:
    """One row of a shard. Its PNGs say that they are synthetic, and which sample they are."""
    text = mark(row.sample_id)
    pixels = {"image": image_cell(sample.image, text), "mask": image_cell(sample.mask, text)}
    told = {**row._asdict(), **verdict._asdict(), **origin._asdict()}
    return {**told, "image_digest": pixel_digest(sample.image), **pixels}


def write_samples(rows: Iterable[Mapping[str, Any]], path: Path) -> None:
    """Write sample rows to a new Parquet file."""
    with open_writer(path) as writer:
        writer.write_table(pa.Table.from_pylist(list(rows), schema=SCHEMA), row_group_size=ROW_GROUP)


def open_writer(path: Path) -> pq.ParquetWriter:
    """A writer of sample tables: zstd except for the PNGs, which are compressed already; a dictionary for 16 rows would not pay."""
    return pq.ParquetWriter(
        path,
        SCHEMA,
        compression=_COMPRESSION,  # pyright: ignore[reportArgumentType]  # "dict" is not assignable to "str": the stubs know one for all
        use_dictionary=False,
        write_statistics=_TOLD,  # pyright: ignore[reportArgumentType]  # "list" is not assignable to "bool": likewise
    )
