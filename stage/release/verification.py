"""Checks that a published data set is what its manifest says, down to every picture; needs no model.

Files are read in small parts. Nothing is repaired: every problem is reported with its place.
"""

import io
from collections.abc import Iterator
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from stage.core.digests import file_digest, pixel_digest
from stage.core.errors import CorruptFileError
from stage.datasets.pairs import decode_image, decode_mask
from stage.release.reader import read_manifest
from stage.release.shards import Described, Tally, data_digest
from stage.synthesis.rows import Identity, PlanRow
from stage.synthesis.schema import CHECKPOINTS, MANIFEST, PLAN, RUNS, SCHEMA, SCHEMA_VERSION, SOURCES, mark

TABLES = (PLAN, SOURCES, CHECKPOINTS, RUNS)
ROWS_AT_ONCE = 64


class Problem(NamedTuple):
    """A difference from the manifest, the plan or the schema: where it is, and what was expected and found."""

    where: str
    what: str


class Lineage(NamedTuple):
    """Digests that samples may name: photographs and masks of the training side, and networks."""

    backgrounds: frozenset[str]
    defective: frozenset[str]
    masks: frozenset[str]
    checkpoints: frozenset[str]


def verify(folder: Path) -> list[Problem]:
    """All problems of a published folder; none if it is intact."""
    try:
        manifest = read_manifest(folder)
        files = {**{shard["path"]: shard for shard in manifest["shards"]}, **manifest["tables"]}
        if manifest["schema_version"] != SCHEMA_VERSION:
            return [Problem(MANIFEST, f"expected schema version {SCHEMA_VERSION}, found {manifest['schema_version']}")]
    except CorruptFileError as error:
        return [Problem(MANIFEST, str(error))]
    except (KeyError, TypeError) as error:
        return [Problem(MANIFEST, f"expected the keys of docs/data.md, found no {error}")]
    damaged = [*_files(folder, files), *_totals(manifest)]
    broken = {problem.where for problem in damaged}
    readable = [shard for shard in manifest["shards"] if shard["path"] not in broken]
    return [*damaged, *_strangers(folder, files), *_contents(folder, readable, broken)]


def _files(folder: Path, files: Described) -> Iterator[Problem]:
    for name in TABLES:
        if name not in files:
            yield Problem(name, "expected the manifest to name it, found that it does not")
    for name, told in files.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            yield Problem(name, "expected a path within the folder, found one that leaves it")
        elif not (folder / name).is_file():
            yield Problem(name, "expected a file, found none")
        elif (found := file_digest(folder / name)) != told["sha256"]:
            yield Problem(name, f"expected SHA-256 {told['sha256'][:16]}…, found {found[:16]}…: it was changed or cut off")


def _totals(manifest: Described) -> Iterator[Problem]:
    shards = manifest["shards"]
    accepted = sum(shard["accepted"] for shard in shards)
    counts = {"count": sum(shard["rows"] for shard in shards), "accepted": accepted}
    counts["rejected"] = counts["count"] - accepted
    for name, expected in {**counts, "digest": data_digest(shards)}.items():
        if manifest[name] != expected:
            yield Problem(MANIFEST, f"expected {name} {expected} by its shards, found {manifest[name]}")


def _strangers(folder: Path, files: Described) -> Iterator[Problem]:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and name not in files and name != MANIFEST:
            yield Problem(name, "expected only files that the manifest names, found one more")


def _contents(folder: Path, shards: list[Described], broken: set[str]) -> Iterator[Problem]:
    """Check row by row, except for what depends on a damaged table."""
    lineage = None if broken & {SOURCES, CHECKPOINTS} else _lineage(folder)
    # A missing shard shifts every row after it: then the plan says nothing about where a row belongs.
    plan = iter(()) if broken else _rows(folder / PLAN)
    for shard in shards:
        try:
            yield from _shard(folder, shard, plan, lineage, against_plan=not broken)
        except (pa.ArrowException, OSError) as error:
            yield Problem(shard["path"], f"expected Parquet, found what cannot be read: {str(error).splitlines()[0]}")
    if (left := next(plan, None)) is not None:
        yield Problem(PLAN, f"expected every planned sample in a shard, found {left['sample_id']} in none")


def _shard(
    folder: Path, shard: Described, plan: Iterator[dict[str, Any]], lineage: Lineage | None, *, against_plan: bool
) -> Iterator[Problem]:
    path = folder / shard["path"]
    found = pq.read_schema(path)
    if not found.equals(SCHEMA) or found.metadata != SCHEMA.metadata:
        yield Problem(shard["path"], f"expected the columns of schema version {SCHEMA_VERSION}, found others")
        return
    tally = Tally()
    for row in _rows(path):
        tally.add(row)
        wrong = chain(_row(row, lineage), _against_plan(row, next(plan, None)) if against_plan else ())
        yield from (Problem(f"{shard['path']}, sample {row['sample_id']}", what) for what in wrong)
    for name, found in tally.facts().items():
        if shard[name] != found:
            yield Problem(shard["path"], f"expected {name} {shard[name]} by the manifest, found {found}")


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    for batch in pq.ParquetFile(path).iter_batches(ROWS_AT_ONCE):
        yield from batch.to_pylist()


def _row(row: dict[str, Any], lineage: Lineage | None) -> Iterator[str]:
    """The problems of a sample on its own."""
    if row["sample_id"] != (expected := Identity(*(row[name] for name in Identity._fields)).sample_id):
        yield f"expected the id {expected}"
    for name, decode in (("image", decode_image), ("mask", decode_mask)):
        yield from _picture(row, name, decode)
    if lineage is not None:
        yield from _sources(row, lineage)


def _picture(row: dict[str, Any], name: str, decode: Any) -> Iterator[str]:
    try:
        pixels: np.ndarray = decode(row[name]["bytes"])
        told = Image.open(io.BytesIO(row[name]["bytes"]), formats=("PNG",)).info
    except CorruptFileError as error:
        yield f"column {name}: {error}"
        return
    if (found := pixel_digest(pixels)) != row[f"{name}_digest"]:
        yield f"column {name}: expected pixels of digest {row[f'{name}_digest'][:16]}…, found {found[:16]}…"
    if told != mark(row["sample_id"]):
        yield f"column {name}: expected the PNG to say that it is synthetic and which sample it is, found {told}"


def _sources(row: dict[str, Any], lineage: Lineage) -> Iterator[str]:
    if row["background_sha256"] not in lineage.backgrounds:
        yield f"expected a background among the training images of {SOURCES}, found {row['background_path']!r}"
    if row["source_sha256"] and row["source_sha256"] not in lineage.defective:
        yield f"expected a photograph of the generator's third in {SOURCES}, found {row['source_path']!r}"
    if row["mask_sha256"] and row["mask_sha256"] not in lineage.masks:
        yield f"expected a mask of the generator's third in {SOURCES}, found {row['mask_path']!r}"
    if not {row["checkpoint"], row["base"]} <= (lineage.checkpoints or {""}):  # of a method without networks, both are empty
        yield f"expected its checkpoint and base in {CHECKPOINTS}, found no such digest there"


def _against_plan(row: dict[str, Any], planned: dict[str, Any] | None) -> Iterator[str]:
    if planned is None:
        yield f"expected no more samples than {PLAN} has, found one more"
    else:
        names = [name for name in PlanRow._fields if row[name] != planned[name]]
        if names:
            yield f"expected the next row of {PLAN}, {planned['sample_id']}, found another value of {', '.join(names)}"


def _lineage(folder: Path) -> Lineage:
    sources = pq.read_table(folder / SOURCES, columns=["sha256", "role"]).to_pylist()
    checkpoints = pq.read_table(folder / CHECKPOINTS, columns=["digest"])["digest"].to_pylist()
    backgrounds, defective, masks = (
        frozenset(row["sha256"] for row in sources if row["role"] == role) for role in ("background", "training", "mask")
    )
    return Lineage(backgrounds, defective, masks, frozenset(checkpoints))
