"""Samples as Parquet: one row per sample with its plan row, verdict and pixels; shards of a fixed run, the manifest last."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Features, Value

from stage.digests import file_digest
from stage.pairs import CorruptShardError, Pair, Pairs, image_cell, image_features, write_table
from stage.quality import Verdict
from stage.synthesis.rows import PlanRow

MANIFEST = "manifest.json"
_KINDS = {str: "string", int: "int64", float: "float64"}
FEATURES = Features(
    {name: Value(_KINDS[kind]) for name, kind in {**PlanRow.__annotations__, **Verdict.__annotations__}.items()}
    | {"checkpoint": Value("string")}
    | dict(image_features())
)


def sample_row(row: PlanRow, sample: Pair, verdict: Verdict, *, checkpoint: str) -> dict[str, Any]:
    """One row of a shard. Its PNGs say that they are synthetic, and which sample they are."""
    text = {"Synthetic": "true", "Sample": row.sample_id}
    pixels = {"image": image_cell(sample.image, text), "mask": image_cell(sample.mask, text)}
    return {**row._asdict(), **verdict._asdict(), "checkpoint": checkpoint, **pixels}


def write_samples(rows: Iterable[dict[str, Any]], path: Path) -> None:
    """Write sample rows to a Parquet file, absent or complete."""
    write_table(rows, FEATURES, path)


def assemble(batches: Sequence[Path], shard_rows: int, folder: Path) -> dict[str, Any]:
    """Write shards of `shard_rows` from finished batches, in their order, and the manifest; returns the manifest."""
    shards: list[dict[str, Any]] = []
    for number, rows in enumerate(_runs(batches, shard_rows)):
        path = folder / f"shard-{number:05d}.parquet"
        write_samples(rows, path)
        accepted = sum(row["verdict"] == "accepted" for row in rows)
        shards.append(
            {"path": path.name, "rows": len(rows), "accepted": accepted, "sha256": file_digest(path), "pixels": _pixel_digest(rows)}
        )
    total, accepted = (sum(shard[key] for shard in shards) for key in ("rows", "accepted"))
    digest = hashlib.sha256("".join(shard["pixels"] for shard in shards).encode()).hexdigest()
    manifest = {"count": total, "accepted": accepted, "rejected": total - accepted, "digest": digest, "shards": shards}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
    return manifest


def read_samples(folder: Path, *, accepted_only: bool) -> Pairs:
    """The samples of a published folder, decoded when asked for; raises CorruptShardError."""
    if not (folder / MANIFEST).is_file():
        raise CorruptShardError(f"Expected {MANIFEST} beside the published samples in {folder}, found none. Run `dvc repro synthesize`.")
    manifest = json.loads((folder / MANIFEST).read_text())
    where = pc.field("verdict") == "accepted" if accepted_only else None
    return Pairs.read([folder / shard["path"] for shard in manifest["shards"]], where)


def _runs(batches: Sequence[Path], size: int) -> Iterator[list[dict[str, Any]]]:
    held: list[dict[str, Any]] = []
    for path in batches:
        held += pq.read_table(path).to_pylist()
        while len(held) >= size:
            yield held[:size]
            held = held[size:]
    if held:
        yield held


def _pixel_digest(rows: Sequence[dict[str, Any]]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(row["sample_id"].encode() + row["image"]["bytes"] + row["mask"]["bytes"])
    return digest.hexdigest()
