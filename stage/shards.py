"""Shards: fixed runs of samples as Parquet, whose bytes follow from their rows alone, and the manifest that says what is there.

A shard holds `synthesize.shard_rows` ordinals of one defect type; its row groups hold 16, whatever the batches were.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from stage.digests import file_digest
from stage.durable import sync, write_whole
from stage.pairs import ROW_GROUP
from stage.samples import SCHEMA_VERSION, open_writer

MANIFEST, SHARDS = "manifest.json", "shards"
TOLD = ("sample_id", "image_digest", "mask_digest")  # what makes two samples the same
Facts = dict[str, Any]


class _Place(NamedTuple):
    """Where a row belongs, as its defect type and ordinal alone say."""

    defect: str
    run: int
    group: int


def write_shards(samples: Iterable[pa.Table], shard_rows: int, folder: Path) -> list[Facts]:
    """Write samples, sorted by defect type and ordinal and handed over in tables of any size; returns what the manifest says of them.

    Holds no more than one of the tables and a row group at a time.
    """
    (folder / SHARDS).mkdir(parents=True, exist_ok=True)
    runs = groupby(_row_groups(samples, shard_rows), key=lambda one: one[0][:2])
    facts = [_write_shard(folder, defect, run, (rows for _, rows in groups)) for (defect, run), groups in runs]
    sync(folder / SHARDS)
    return facts


def shard_name(defect: str, run: int) -> str:
    """A path that no name in the data can lead astray: the safe characters of the type, and four digits of its digest."""
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", defect)[:40]
    return f"{SHARDS}/{safe}-{hashlib.sha256(defect.encode()).hexdigest()[:4]}-{run:05d}.parquet"


def write_manifest(folder: Path, shards: list[Facts], **more: Any) -> Facts:
    """Write and return what a folder holds; a folder without it holds nothing."""
    count, accepted = (sum(shard[key] for shard in shards) for key in ("rows", "accepted"))
    counts = {"count": count, "accepted": accepted, "rejected": count - accepted}
    manifest = {"schema_version": SCHEMA_VERSION, **counts, "digest": data_digest(shards), **more, "shards": shards}
    sealed = {**manifest, "seal": seal(manifest)}
    write_whole(manifest_text(sealed), folder / MANIFEST)
    return sealed


def manifest_text(manifest: Facts) -> str:
    """How a manifest is written, to the byte."""
    return json.dumps(manifest, indent=2) + "\n"


def seal(manifest: Facts) -> str:
    """SHA-256 of a manifest without its seal: what finds a flipped bit in the manifest itself."""
    return hashlib.sha256(manifest_text({key: value for key, value in manifest.items() if key != "seal"}).encode()).hexdigest()


def data_digest(shards: Iterable[Facts]) -> str:
    """SHA-256 of the shards' pixel digests; the name of a version of the data."""
    return hashlib.sha256("".join(shard["pixels"] for shard in shards).encode()).hexdigest()


def pixel_digest_of(tables: Iterable[pa.Table | pa.RecordBatch]) -> str:
    """SHA-256 over each row's sample id and digests of image and mask, in order; the same with any version of pyarrow and Pillow."""
    digest = hashlib.sha256()
    for table in tables:
        for told in zip(*(table[name].to_pylist() for name in TOLD), strict=True):
            digest.update(f"{' '.join(told)}\n".encode())
    return digest.hexdigest()


def _write_shard(folder: Path, defect: str, run: int, groups: Iterator[pa.Table]) -> Facts:
    name, counts = shard_name(defect, run), {"rows": 0, "accepted": 0}
    with open_writer(folder / name) as writer:
        digest = pixel_digest_of(_written(groups, writer, counts))
    sync(folder / name)
    return {"path": name, "defect": defect, **counts, "sha256": file_digest(folder / name), "pixels": digest}


def _written(groups: Iterator[pa.Table], writer: pq.ParquetWriter, counts: dict[str, int]) -> Iterator[pa.Table]:
    """Each row group after it was written and counted."""
    for table in groups:
        writer.write_table(table)
        counts["rows"] += len(table)
        counts["accepted"] += table["verdict"].to_pylist().count("accepted")
        yield table


def _row_groups(samples: Iterable[pa.Table], shard_rows: int) -> Iterator[tuple[_Place, pa.Table]]:
    held: list[pa.Table] = []
    place: _Place | None = None
    for table in samples:
        start = 0
        for here, same in groupby(_places(table, shard_rows)):
            count = len(list(same))
            if place not in (None, here):
                yield place, _joined(held)
                held = []
            place = here
            held.append(table.slice(start, count))
            start += count
    if place is not None:
        yield place, _joined(held)


def _joined(tables: list[pa.Table]) -> pa.Table:
    return pa.concat_tables(tables).combine_chunks()


def _places(table: pa.Table, shard_rows: int) -> list[_Place]:
    identities = zip(table["defect"].to_pylist(), table["ordinal"].to_pylist(), strict=True)
    return [_Place(defect, k // shard_rows, k % shard_rows // ROW_GROUP) for defect, k in identities]
