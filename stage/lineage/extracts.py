"""Tables of a version without their pictures, kept in the spool by content: a query reads megabytes instead of gigabytes, and each once.

A shard has row groups of 16 samples between pictures, which suits training; its extract has them by the thousand. What is read is
compared with the manifest, so that an extract holds what was published or is not there.
"""

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from stage.core.durable import whole_file
from stage.core.errors import CorruptFileError
from stage.lineage.trees import Tree

STORE = Path(".spool/lineage/1")  # the number goes up when extracts change
ROWS = 16_384  # of a row group
MEND = "Run `dvc checkout --force` for what was published last, or `dvc repro` to make it again."


def keep(name: str, table: pa.Table) -> str:
    """Write an extract under a name that tells its content; its column `extract` says the name, so that rows of many can be told apart."""
    named = table.replace_schema_metadata(None).append_column("extract", pa.array([name] * len(table), pa.string()))
    with whole_file(STORE / name) as partial:
        pq.write_table(named, partial, compression="zstd", row_group_size=ROWS)
    return name


def empty_extracts() -> dict[str, str]:
    """A file without rows per kind of table, so that every kind has its columns even where no version has any of it."""
    names = {kind: f"{kind}-empty.parquet" for kind in ("samples", "sources", "checkpoints", "runs", "scores", "differences", "catalog")}
    missing = [kind for kind, name in names.items() if not (STORE / name).is_file()]
    if missing:
        schemas = _schemas()
        for kind in missing:
            keep(names[kind], schemas[kind].empty_table())
    return names


def keep_samples(tree: Tree, folder: str, manifest: dict[str, Any]) -> str:
    """The extract of a published folder's samples, with all columns but the pictures; raises CorruptFileError where they are not as published."""
    name = f"samples-{manifest['seal']}.parquet"
    if not (STORE / name).is_file():
        keep(name, _samples(tree, folder, manifest))
    return name


def keep_table(tree: Tree, path: str, kind: str, content: str) -> str:
    """The extract of any other table; `content` tells its content, as `Tree.files` does."""
    name = f"{kind}-{content}.parquet"
    if not (STORE / name).is_file():
        keep(name, _without_pictures(tree, path, _schemas()[kind]))
    return name


def keep_told(tree: Tree, folder: str, file: str, manifest: dict[str, Any]) -> str:
    """The extract of a table beside the shards, compared with its SHA-256 in the manifest."""
    kind = file.partition(".")[0]
    told = manifest["tables"].get(file)
    if told is None:
        raise CorruptFileError(f"Expected the manifest of {folder} to name {file}, found that it does not. {MEND}")
    name = f"{kind}-{told['sha256']}.parquet"
    if not (STORE / name).is_file():
        keep(name, _told(tree, f"{folder}/{file}", told["sha256"]))
    return name


def sample_in(name: str, sample_id: str) -> dict[str, Any]:
    """All columns of a sample that is in an extract; other row groups than its own are not read."""
    return pq.read_table(STORE / name, filters=[("sample_id", "==", sample_id)]).drop_columns(["extract"]).to_pylist()[0]


def read(tree: Tree, path: str, columns: Iterable[str] | None = None) -> pa.Table:
    """Some columns of a Parquet file of a version; raises CorruptFileError."""
    with tree.open(path) as file:
        try:
            return pq.ParquetFile(file).read(columns=None if columns is None else list(columns))
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _unreadable(path, error) from None


def _unreadable(path: str, error: Exception) -> CorruptFileError:
    return CorruptFileError(f"Expected a Parquet file at {path}, found {(str(error) or 'another').splitlines()[0]}. {MEND}")


def _samples(tree: Tree, folder: str, manifest: dict[str, Any]) -> pa.Table:
    """The plan and, beside it row by row, what came of it: the plan has the same columns in large row groups."""
    from stage.synthesis.schema import PLAN, PLAN_SCHEMA, SCHEMA  # here, because a second query needs neither

    beside = [name for name in SCHEMA.names if name not in (*PLAN_SCHEMA.names, "image", "mask")]
    told = manifest["tables"].get(PLAN, {})
    plan = _told(tree, f"{folder}/{PLAN}", told.get("sha256", ""))
    parts = [_shard(tree, folder, shard, beside) for shard in manifest["shards"]]
    made = pa.concat_tables(parts) if parts else pa.schema([SCHEMA.field(name) for name in ("sample_id", *beside)]).empty_table()
    if not made["sample_id"].equals(plan["sample_id"]):
        raise CorruptFileError(
            f"Expected the samples of {folder} in the order of its {PLAN}, found others. `stage verify` says where. {MEND}"
        )
    for name in beside:
        plan = plan.append_column(SCHEMA.field(name), made[name])
    return plan.replace_schema_metadata(None)


def _shard(tree: Tree, folder: str, shard: dict[str, Any], beside: list[str]) -> pa.Table:
    from stage.release.shards import Tally

    path, tally = f"{folder}/{shard['path']}", Tally()
    table = read(tree, path, dict.fromkeys((*Tally.COLUMNS, *beside)))
    for row in table.select(list(Tally.COLUMNS)).to_pylist():
        tally.add(row)
    if wrong := [name for name, found in tally.facts().items() if shard[name] != found]:
        raise CorruptFileError(
            f"Expected {', '.join(wrong)} of {path} as its manifest says, found others. `stage verify` says where. {MEND}"
        )
    return table.select(["sample_id", *beside])


def _told(tree: Tree, path: str, sha256: str) -> pa.Table:
    """A table of this digest."""
    with tree.open(path) as file:
        content = file.read()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise CorruptFileError(f"Expected {path} as its manifest says, found it changed. `stage verify` says more. {MEND}")
    return pq.ParquetFile(io.BytesIO(content)).read().replace_schema_metadata(None)


def _without_pictures(tree: Tree, path: str, schema: pa.Schema) -> pa.Table:
    """The columns of a table that this version of the project knows, with their types."""
    with tree.open(path) as file:
        try:
            names = pq.read_schema(file).names
        except (pa.ArrowException, OSError, ValueError) as error:
            raise _unreadable(path, error) from None
    if missing := [name for name in schema.names if name not in names]:
        raise CorruptFileError(
            f"Expected the columns {', '.join(schema.names)} in {path}, found no {missing[0]}: an earlier version wrote it. Run `dvc repro`."
        )
    try:
        return read(tree, path, schema.names).cast(schema)
    except (pa.ArrowException, ValueError) as error:
        raise CorruptFileError(f"Expected the types of docs/data.md in {path}, found {str(error).splitlines()[0]}. {MEND}") from None


def _schemas() -> dict[str, pa.Schema]:
    """The columns of every kind of table, without pictures."""
    from stage.datasets.columns import schema
    from stage.datasets.table import COLUMNS as CATALOG_COLUMNS
    from stage.datasets.table import PICTURES
    from stage.release.tables import RUN_COLUMNS
    from stage.segmentation.results import DIFFERENCE_COLUMNS
    from stage.segmentation.scores import COLUMNS
    from stage.synthesis.schema import CHECKPOINT_SCHEMA, SCHEMA, SOURCE_SCHEMA

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
        "runs": RUN_COLUMNS,
        "scores": scores,
        "differences": differences,
        "catalog": _plain(schema(CATALOG_COLUMNS), tuple(PICTURES)),
    }


def _plain(schema: pa.Schema, pictures: tuple[str, ...]) -> pa.Schema:
    return pa.schema([field for field in schema if field.name not in pictures])
