"""Checks that a published data set is what its manifest says, down to every picture; needs no model.

Files are read in small parts. Nothing is repaired, and nothing is trusted: every problem is reported with its place.
"""

import json
from collections.abc import Iterator
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from stage.core.digests import file_digest
from stage.core.durable import read_sealed
from stage.core.errors import CorruptFileError
from stage.datasets.walking import shown
from stage.release.croissant import CROISSANT
from stage.release.reader import read_manifest
from stage.release.sample_checks import KnownDigests, plan_problems, sample_problems
from stage.release.shards import JsonObject, Tally, data_digest
from stage.synthesis.schema import CARD, CHECKPOINTS, MANIFEST, PLAN, RUNS, SCHEMA, SCHEMA_VERSION, SOURCES, TABLES

ROWS_AT_ONCE = 64
PARQUET = b"PAR1"  # how every Parquet file begins
UNREADABLE = (pa.ArrowException, OSError, ValueError)  # what a damaged Parquet file may raise


class Problem(NamedTuple):
    """A difference from the manifest, the plan or the schema: where it is, and what was expected and found."""

    where: str
    what: str


def verify(folder: Path) -> list[Problem]:
    """All problems of a published folder, wherever it comes from; none if it is as it was published."""
    try:
        manifest = read_manifest(folder)
    except CorruptFileError as error:
        return [Problem(MANIFEST, str(error))]
    files = _named(manifest)
    damaged = [*_files(folder, files), *_totals(manifest)]
    damaged += _tables(folder, manifest, {problem.where for problem in damaged})
    broken = {problem.where for problem in damaged}
    whose = {name: manifest[name] for name in ("method", "category")}
    readable = [{**shard, **whose} for shard in manifest["shards"] if shard["path"] not in broken]
    return [*damaged, *_strangers(folder, files), *_contents(folder, manifest, readable, broken)]


def verify_runs(folder: Path) -> list[Problem]:
    """The problems of a folder with `runs.parquet`; none if it is as it was published."""
    try:
        told = read_sealed(folder / MANIFEST)
        found = file_digest(folder / RUNS)
    except (OSError, ValueError) as error:
        return [Problem(RUNS, f"expected the table of runs and its sealed digest, found {error}")]
    return [] if found == told.get("sha256") else [Problem(RUNS, f"expected SHA-256 {told.get('sha256')}, found {found}: it was changed")]


def foreign_files(folder: Path) -> list[str]:
    """Files of a published folder that the manifest does not name, and that no reader takes for samples, such as `.DS_Store`; none without a manifest."""
    try:
        files = _named(read_manifest(folder))
    except CorruptFileError:
        return []
    return [shown(name) for name in _unnamed(folder, files) if not _is_parquet(folder / name)]


def _named(manifest: JsonObject) -> JsonObject:
    """The entries of the manifest by the paths of their files."""
    return {**{shard["path"]: shard for shard in manifest["shards"]}, **manifest["tables"]}


def _files(folder: Path, files: JsonObject) -> Iterator[Problem]:
    for name in TABLES:
        if name not in files:
            yield Problem(name, "expected the manifest to name it, found that it does not")
    for name, told in files.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            yield Problem(name, "expected a path within the folder, found one that leaves it")
            continue
        try:
            if not (folder / name).is_file():
                yield Problem(name, "expected a file, found none")
            elif (found := file_digest(folder / name)) != told["sha256"]:
                yield Problem(name, f"expected SHA-256 {told['sha256'][:16]}…, found {found[:16]}…: it was changed or cut off")
        except OSError as error:
            yield Problem(name, f"expected a file that can be read, found {error.strerror}")


def _tables(folder: Path, manifest: JsonObject, broken: set[str]) -> Iterator[Problem]:
    """Check the columns and the rows of the tables that are there, down to every value."""
    for name, schema in TABLES.items():
        if name in broken:
            continue
        try:
            table = pq.ParquetFile(folder / name)
            if not table.schema_arrow.equals(schema):
                yield Problem(name, _columns(schema, table.schema_arrow))
                continue
            rows = sum(len(batch) for batch in _batches(table))
            if rows != (expected := manifest["tables"][name]["rows"]):
                yield Problem(name, f"expected {expected} rows by the manifest, found {rows}")
        except UNREADABLE as error:
            yield Problem(name, _unreadable(error))


def _totals(manifest: JsonObject) -> Iterator[Problem]:
    shards = manifest["shards"]
    accepted = sum(shard["accepted"] for shard in shards)
    counts = {"count": sum(shard["rows"] for shard in shards), "accepted": accepted}
    counts["rejected"] = counts["count"] - accepted
    for name, expected in {**counts, "digest": data_digest(shards)}.items():
        if manifest[name] != expected:
            yield Problem(MANIFEST, f"expected {name} {expected} by its shards, found {manifest[name]}")


def _strangers(folder: Path, files: JsonObject) -> Iterator[Problem]:
    for name in _unnamed(folder, files):
        if _is_parquet(folder / name):
            yield Problem(shown(name), "expected only the Parquet files that the manifest names, found one more")


def _unnamed(folder: Path, files: JsonObject) -> list[str]:
    """Files other than those that the manifest names, the manifest itself, the card and `croissant.json`."""
    names = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if not path.is_dir())
    return [name for name in names if name not in files and name not in (MANIFEST, CARD, CROISSANT)]


def _is_parquet(path: Path) -> bool:
    """Whether a reader that opens every Parquet file would take this one for samples."""
    if path.suffix != ".parquet" or not path.is_file():
        return False
    try:
        with path.open("rb") as file:
            return file.read(len(PARQUET)) == PARQUET
    except OSError:
        return False


def _contents(folder: Path, manifest: JsonObject, shards: list[JsonObject], broken: set[str]) -> Iterator[Problem]:
    """Check row by row, without the checks that need a damaged table."""
    lineage = None if broken & {SOURCES, CHECKPOINTS} else _lineage(folder, manifest)
    # A missing shard shifts every row after it: then the plan says nothing about where a row belongs.
    plan = iter(()) if broken else _rows(folder / PLAN)
    for shard in shards:
        try:
            yield from _shard(folder, shard, plan, lineage, against_plan=not broken)
        except UNREADABLE as error:
            yield Problem(shard["path"], _unreadable(error))
    if (left := next(plan, None)) is not None:
        yield Problem(PLAN, f"expected every planned sample in a shard, found {left['sample_id']} in none")


def _unreadable(error: Exception) -> str:
    return f"expected Parquet, found what cannot be read: {(str(error).splitlines() or [type(error).__name__])[0]}"


def _shard(
    folder: Path, shard: JsonObject, plan: Iterator[dict[str, Any]], lineage: KnownDigests | None, *, against_plan: bool
) -> Iterator[Problem]:
    path = folder / shard["path"]
    found = pq.read_schema(path)
    if not found.equals(SCHEMA) or found.metadata != SCHEMA.metadata:
        yield Problem(shard["path"], f"schema version {SCHEMA_VERSION}: {_columns(SCHEMA, found)}")
        return
    tally = Tally()
    for row in _rows(path):
        tally.add(row)
        wrong = chain(sample_problems(row, shard, lineage), plan_problems(row, next(plan, None)) if against_plan else ())
        yield from (Problem(f"{shard['path']}, sample {row['sample_id']}", what) for what in wrong)
    for name, found in tally.facts().items():
        if shard[name] != found:
            yield Problem(shard["path"], f"expected {name} {shard[name]} by the manifest, found {found}")


def _columns(expected: pa.Schema, found: pa.Schema) -> str:
    """Where two schemas differ: columns that are missing, of another type, additional or in another order; or nullability and metadata."""
    ours, theirs = ({field.name: field.type for field in schema} for schema in (expected, found))
    told = [f"{name} as {kind}, found {theirs.get(name, 'none')}" for name, kind in ours.items() if theirs.get(name) != kind]
    if more := [name for name in theirs if name not in ours]:
        told.append(f"no column {', '.join(map(shown, more))}, found it")
    if not told and found.names != expected.names:
        told = [f"the order {', '.join(expected.names)}, found {', '.join(found.names)}"]
    return "expected " + ("; expected ".join(told) or "the same nullability and metadata, found others")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for batch in _batches(pq.ParquetFile(path)):
        yield from batch.to_pylist()


def _batches(file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
    """A file in small parts, each of which is validated: a text that is not UTF-8, say, is an ArrowException."""
    for batch in file.iter_batches(ROWS_AT_ONCE):
        batch.validate(full=True)
        yield batch


def _lineage(folder: Path, manifest: JsonObject) -> KnownDigests:
    sources = pq.read_table(folder / SOURCES, columns=["sha256", "role"]).to_pylist()
    checkpoints = pq.read_table(folder / CHECKPOINTS, columns=["digest"])["digest"].to_pylist()
    backgrounds, defective, masks, tested = (
        frozenset(row["sha256"] for row in sources if row["role"] == role) for role in ("background", "training", "mask", "test")
    )
    has_own_textures = manifest["inputs"].get("textures.source") == json.dumps("own")
    return KnownDigests(backgrounds, defective, masks, frozenset(checkpoints), tested, has_own_textures)
