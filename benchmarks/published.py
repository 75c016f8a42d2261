"""Samples of nothing in particular, published as `synthesize` publishes them: what the benchmarks of reading them start from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from stage.datasets.pairs import Pair
from stage.release.shards import write_manifest, write_shards
from stage.synthesis.rows import Origin, PlanRow, Verdict
from stage.synthesis.schema import SCHEMA, sample_row

CATEGORY, METHOD, DEFECT = "part", "stage", "crack"
BATCH, SHARD_ROWS = 16, 1000
Rows = list[dict[str, Any]]


def rows_of(pairs: Sequence[Pair]) -> Rows:
    """An accepted sample of each pair, with values as long as real ones."""
    verdict = Verdict(31.5, 0, 1, 1, 0.25, 0.125, "f" * 64, 7.5, "accepted", "")
    origin = Origin("k" * 32, "c" * 64, "b" * 64, "p" * 32, "o" * 32, tuple(range(999, 0, -20)), "torch 2.13.0, diffusers 0.42.1", "cpu")
    return [sample_row(_planned(ordinal), pair, verdict, origin) for ordinal, pair in enumerate(pairs)]


def publish(rows: Rows, folder: Path) -> None:
    """Write shards by the batch, with their digests and synced to the disk, and their manifest."""
    tables = (pa.Table.from_pylist(rows[k : k + BATCH], schema=SCHEMA) for k in range(0, len(rows), BATCH))
    described = {"method": METHOD, "category": CATEGORY, "job": "none", "inputs": {}, "tables": {}}
    write_manifest(folder, write_shards(tables, SHARD_ROWS, folder), **described)


def _planned(ordinal: int) -> PlanRow:
    kinds = {str: "part/train/good/000.png", int: 7, float: 0.5}
    values = {name: kinds[kind] for name, kind in PlanRow.__annotations__.items()}
    digests = {"background_sha256": "b" * 64, "mask_sha256": "a" * 64, "mask_digest": "d" * 64}
    of_others = {"source_path": "", "source_sha256": "", "choices": ""}  # columns that other methods fill
    name = {"sample_id": f"{METHOD}/{CATEGORY}/{DEFECT}/{ordinal:06d}/0", "ordinal": ordinal}
    return PlanRow(**{**values, **digests, **of_others, **name, "method": METHOD, "category": CATEGORY, "defect": DEFECT})
