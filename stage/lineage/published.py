"""Tables of a version as they were published, without their pictures, compared with its manifest.

Shards suit training, so queries read extracts of them (stage/lineage/extracts.py).
"""

import io
from collections.abc import Iterable
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stage.core.digests import bytes_digest
from stage.core.errors import CorruptFileError
from stage.datasets.columns import schema
from stage.datasets.table import COLUMNS as CATALOG_COLUMNS
from stage.datasets.table import PICTURES
from stage.lineage.earlier import ADDED, completed, with_todays_ids
from stage.lineage.layout import EARLIER, FIRST
from stage.lineage.trees import MEND, Tree
from stage.release.shards import Tally
from stage.release.tables import RUN_COLUMNS
from stage.segmentation.results import DIFFERENCE_COLUMNS
from stage.segmentation.scores import COLUMNS
from stage.synthesis.schema import CHECKPOINT_SCHEMA, PLAN, PLAN_SCHEMA, SCHEMA, SOURCE_SCHEMA, VERDICT_SCHEMA


def samples(tree: Tree, folder: str, manifest: dict[str, Any]) -> pa.Table:
    """The samples of a published folder: the rows of the plan, whose row groups are large, and the shards' other columns beside them."""
    version = manifest["schema_version"]
    more = pa.schema([field for field in SCHEMA if field.name not in (*PLAN_SCHEMA.names, "image", "mask")])
    told = manifest["tables"].get(PLAN, {})
    plan = table_of_sha256(tree, f"{folder}/{PLAN}", told.get("sha256", ""))
    columns = pa.schema([SCHEMA.field("sample_id"), *more])
    parts = [_shard(tree, folder, shard, columns.names) for shard in manifest["shards"]]
    if version in EARLIER:
        plan, parts = completed(plan, PLAN_SCHEMA), [completed(part, columns) for part in parts]
    made = pa.concat_tables(parts).select(columns.names) if parts else columns.empty_table()
    if not made["sample_id"].equals(plan["sample_id"]):
        raise CorruptFileError(
            f"Expected the samples of {folder} in the order of its {PLAN}, found others. `stage verify` says where. {MEND}"
        )
    for field in more:
        plan = plan.append_column(field, made[field.name])
    return (with_todays_ids(plan) if version == FIRST else plan).replace_schema_metadata(None)


def _shard(tree: Tree, folder: str, shard: dict[str, Any], columns: Iterable[str]) -> pa.Table:
    path, tally = f"{folder}/{shard['path']}", Tally()
    table = _read(tree, path, dict.fromkeys((*Tally.COLUMNS, *columns)))
    for row in table.select(list(Tally.COLUMNS)).to_pylist():
        tally.add(row)
    if wrong := [name for name, found in tally.facts().items() if shard[name] != found]:
        raise CorruptFileError(
            f"Expected {', '.join(wrong)} of {path} as its manifest says, found others. `stage verify` says where. {MEND}"
        )
    return table


def beside(tree: Tree, path: str, sha256: str, kind: str, version: str) -> pa.Table:
    """A table beside the shards, compared with its SHA-256."""
    table = table_of_sha256(tree, path, sha256)
    return completed(table, schemas()[kind]) if version in EARLIER else table


def table_of_sha256(tree: Tree, path: str, sha256: str) -> pa.Table:
    """A table of this SHA-256; raises CorruptFileError for any other."""
    with tree.open(path) as file:
        content = file.read()
    if bytes_digest(content) != sha256:
        raise CorruptFileError(f"Expected {path} as its manifest says, found it changed. `stage verify` says more. {MEND}")
    return pq.ParquetFile(io.BytesIO(content)).read().replace_schema_metadata(None)


def without_pictures(tree: Tree, path: str, kind: str) -> pa.Table:
    """The columns of a table that this version of the project knows, with their types."""
    known = schemas()[kind]
    with tree.open(path) as file:
        try:
            names = pq.read_schema(file).names
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _unreadable(path, error) from None
    if missing := [name for name in known.names if name not in (*names, *ADDED.get(kind, ()))]:
        raise CorruptFileError(
            f"Expected the columns {', '.join(known.names)} in {path}, found no {missing[0]}: an earlier version wrote it. Run `dvc repro`."
        )
    try:
        return completed(_read(tree, path, known.names), known).cast(known)
    except (pa.ArrowException, ValueError) as error:
        raise CorruptFileError(f"Expected the types of docs/data.md in {path}, found {str(error).splitlines()[0]}. {MEND}") from None


def schemas() -> dict[str, pa.Schema]:
    """The columns of every kind of table, without pictures."""
    numbers = {
        "real_per_type": pa.int64(),
        "seed": pa.int64(),
        "against": pa.int64(),
        "draw": pa.int64(),
        "value": pa.float64(),
        "difference": pa.float64(),
    }
    scores, differences = (pa.schema([(name, numbers.get(name, pa.string())) for name in names]) for names in (COLUMNS, DIFFERENCE_COLUMNS))
    return {
        "samples": _plain(SCHEMA, ("image", "mask")),
        "sources": SOURCE_SCHEMA,
        "checkpoints": CHECKPOINT_SCHEMA,
        "verdict": VERDICT_SCHEMA,
        "runs": RUN_COLUMNS,
        "scores": scores,
        "differences": differences,
        "catalog": _plain(schema(CATALOG_COLUMNS), tuple(PICTURES)),
    }


def _plain(schema: pa.Schema, pictures: tuple[str, ...]) -> pa.Schema:
    return pa.schema([field for field in schema if field.name not in pictures])


def _read(tree: Tree, path: str, columns: Iterable[str]) -> pa.Table:
    """Some columns of a Parquet file of a version; raises CorruptFileError."""
    with tree.open(path) as file:
        try:
            return pq.ParquetFile(file).read(columns=list(columns))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _unreadable(path, error) from None


def _unreadable(path: str, error: Exception) -> CorruptFileError:
    return CorruptFileError(f"Expected a Parquet file at {path}, found {(str(error) or 'another').splitlines()[0]}. {MEND}")
