"""Writes samples to shards, Parquet files whose bytes depend only on their rows, and the manifest that lists them.

A shard holds `synthesize.shard_rows` ordinals of one defect type, a row group 16 of them, whatever the batches were.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from stage.core.digests import bytes_digest, file_digest
from stage.core.durable import sync, write_sealed
from stage.core.errors import DataError
from stage.datasets.pairs import ROW_GROUP
from stage.synthesis.schema import MANIFEST, SCHEMA_VERSION, SHARDS, open_writer

JsonObject = dict[str, Any]


class _Slot(NamedTuple):
    """The shard and row group of a row, which follow from its defect type and ordinal alone."""

    defect: str
    run: int
    group: int


def write_shards(samples: Iterable[pa.Table], shard_rows: int, folder: Path) -> list[JsonObject]:
    """Write samples, sorted by defect type and ordinal, from tables of any size; returns their entries in the manifest.

    Holds at most one table and one row group in memory. Raises DataError if two shards would have one name; none is written twice.
    """
    (folder / SHARDS).mkdir(parents=True, exist_ok=True)
    runs = groupby(_row_groups(samples, shard_rows), key=lambda one: one[0][:2])
    facts: dict[str, JsonObject] = {}
    for (defect, run), groups in runs:
        name = shard_name(defect, run)
        if name in facts:
            raise DataError(
                f"Expected every shard to be written once, found {folder / name} again, for the defect type {defect!r}: its samples are not "
                "in order, or another type has its name. Rename the defect type in the data set, and run `dvc repro`."
            )
        facts[name] = {"path": name, "defect": defect, **_write_shard(folder / name, (rows for _, rows in groups))}
    sync(folder / SHARDS)
    return list(facts.values())


def shard_name(defect: str, run: int) -> str:
    """A path that no name in the data can lead out of the folder: the safe characters of the type, and 16 digits of its SHA-256.

    The digits distinguish types whose safe characters are the same, or differ only in case, which some disks ignore.
    """
    safe = re.sub(r"[^A-Za-z0-9_-]", "_", defect)[:40]
    return f"{SHARDS}/{safe}-{bytes_digest(defect.encode())[:16]}-{run:05d}.parquet"


def write_manifest(folder: Path, shards: list[JsonObject], **more: Any) -> JsonObject:
    """Write the manifest and return it; a folder without one counts as empty. `more`: the other keys of `Manifest`, by name."""
    count, accepted = (sum(shard[key] for shard in shards) for key in ("rows", "accepted"))
    counts = {"count": count, "accepted": accepted, "rejected": count - accepted}
    manifest = {"schema_version": SCHEMA_VERSION, **counts, "digest": data_digest(shards), **more, "shards": shards}
    return write_sealed(manifest, folder / MANIFEST)


def data_digest(shards: Iterable[JsonObject]) -> str:
    """SHA-256 of the shards' pixel digests; it names a version of the data."""
    return bytes_digest("".join(shard["pixels"] for shard in shards).encode())


class Tally:
    """Tallies a shard's rows for the manifest: how many, how many accepted, and the digest of their pixels.

    The digest is SHA-256 over each row's sample id and digests of image and mask, so no version of pyarrow or Pillow changes it.
    """

    COLUMNS = ("sample_id", "image_digest", "mask_digest", "verdict")

    def __init__(self) -> None:
        self._rows = self._accepted = 0
        self._digest = hashlib.sha256()

    def add(self, row: Mapping[str, Any]) -> None:
        """Count one more row."""
        *identity, verdict = (row[name] for name in self.COLUMNS)
        self._digest.update(f"{' '.join(map(str, identity))}\n".encode())
        self._rows += 1
        self._accepted += verdict == "accepted"

    def facts(self) -> JsonObject:
        """The counts so far, under the manifest's names."""
        return {"rows": self._rows, "accepted": self._accepted, "pixels": self._digest.hexdigest()}


def _write_shard(path: Path, groups: Iterator[pa.Table]) -> JsonObject:
    tally = Tally()
    with open_writer(path) as writer:
        for table in groups:
            writer.write_table(table)
            for row in table.select(tally.COLUMNS).to_pylist():
                tally.add(row)
    sync(path)
    return {**tally.facts(), "sha256": file_digest(path)}


def _row_groups(samples: Iterable[pa.Table], shard_rows: int) -> Iterator[tuple[_Slot, pa.Table]]:
    held: list[pa.Table] = []
    place: _Slot | None = None
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


def _places(table: pa.Table, shard_rows: int) -> list[_Slot]:
    identities = zip(table["defect"].to_pylist(), table["ordinal"].to_pylist(), strict=True)
    return [_Slot(defect, k // shard_rows, k % shard_rows // ROW_GROUP) for defect, k in identities]
