"""The tables beside the shards, for queries that trace a sample to its photographs, networks and plan, and the table of runs.

Only `runs.parquet` says who made a sample, where and when. It lies in a folder of its own, so that all other files can be made
again byte for byte, and nothing that depends on the samples is remade because another machine made them.
"""

import json
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from heapq import merge
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel

from stage.core.digests import file_digest
from stage.core.durable import sync, write_sealed
from stage.core.json_files import read_json
from stage.datasets.examples import CATALOG
from stage.datasets.recalled import read_withdrawn
from stage.datasets.rules import GOOD
from stage.datasets.table import read_catalog, training_part
from stage.jobs.job import Job
from stage.jobs.store import Maker
from stage.model.base_pointer import start_of
from stage.model.files import CHECKPOINT
from stage.synthesis.schema import (
    CHECKPOINT_SCHEMA,
    CHECKPOINTS,
    MANIFEST,
    PLAN,
    PLAN_SCHEMA,
    RUNS,
    SOURCE_SCHEMA,
    SOURCES,
    VERDICT,
    VERDICT_SCHEMA,
)

RUN_COLUMNS = pa.schema([(name, pa.string()) for name in ("batch_key", *Maker._fields)])
AT_ONCE = 4096  # rows of `plan` and `runs`


class CheckpointFacts(BaseModel):
    """What the tables take from the facts of a checkpoint."""

    base: str


def write_tables(jobs: Sequence[Job], folder: Path) -> dict[str, dict[str, Any]]:
    """Write `sources`, `checkpoints`, `plan` and `verdict` of the jobs of all rounds; returns the rows and the SHA-256 of each file."""
    job = jobs[0]
    catalog = read_catalog(job.recipe.catalog / CATALOG)
    written = {
        SOURCES: _write([sources(catalog)], SOURCE_SCHEMA, folder / SOURCES),
        CHECKPOINTS: _write([checkpoints(job, catalog)], CHECKPOINT_SCHEMA, folder / CHECKPOINTS),
        PLAN: _write(_plan(jobs), PLAN_SCHEMA, folder / PLAN),
        VERDICT: _write([verdict_table(job)], VERDICT_SCHEMA, folder / VERDICT),
    }
    return {name: {"rows": rows, "sha256": file_digest(folder / name)} for name, rows in written.items()}


def write_runs(jobs: Sequence[Job], folder: Path) -> None:
    """Write `runs`, a row per batch of the jobs of all rounds, and its digest under a seal beside it."""
    folder.mkdir(parents=True)
    rows = _write((table for job in jobs for table in _runs(job)), RUN_COLUMNS, folder / RUNS)
    write_sealed({"rows": rows, "sha256": file_digest(folder / RUNS)}, folder / MANIFEST)


def sources(catalog: pd.DataFrame) -> pa.Table:
    """Every accepted image and mask of a category's catalog, on both sides of the split, and its use."""
    accepted = catalog.loc[catalog.status == "accepted"].sort_values("image_path")
    rows = [row for entry in accepted.to_dict("records") for row in _source_rows(entry)]
    return pa.Table.from_pylist(rows, schema=SOURCE_SCHEMA)


def checkpoints(job: Job, catalog: pd.DataFrame) -> pa.Table:
    """The networks of the samples, with the digests of the images and masks that trained them here; a base from elsewhere has none."""
    recipe, inputs = job.recipe, job.inputs
    if recipe.base is None or recipe.checkpoint is None:
        return CHECKPOINT_SCHEMA.empty_table()
    facts = read_json(recipe.checkpoint / CHECKPOINT, CheckpointFacts, what="the facts of a checkpoint", mend="dvc repro train")
    folders = [file.parent for file in sorted(recipe.catalog.parent.glob(f"*/{CATALOG}"))] if facts["base"] == "scratch" else []
    base = sorted({digest for folder in folders for digest in trained_on(read_catalog(folder / CATALOG))})
    adapters = {"digest": inputs["checkpoint"], "kind": "adapters", "category": recipe.category, "base": inputs["base"]}
    beneath = {"digest": inputs["base"], "kind": "base", "category": "", "base": ""}
    start = start_of(recipe.base)
    rows = [
        adapters | {"facts": json.dumps(facts | start, sort_keys=True), "sources": trained_on(catalog)},
        beneath | {"facts": json.dumps({"base": facts["base"]} | start), "sources": base},
    ]
    return pa.Table.from_pylist(rows, schema=CHECKPOINT_SCHEMA)


def trained_on(catalog: pd.DataFrame) -> list[str]:
    """Digests of a category's training images and masks."""
    training = training_part(catalog)
    return sorted({*training.image_sha256.dropna(), *training.mask_sha256.dropna()})


def verdict_table(job: Job) -> pa.Table:
    """The calibration of the verdict, a row per defect type; empty if every sample is kept."""
    return pa.Table.from_pylist([record._asdict() for record in job.judge.records] if job.judge else [], schema=VERDICT_SCHEMA)


def _source_rows(entry: Mapping[Hashable, Any]) -> Iterator[dict[str, Any]]:
    told = {name: entry[name] for name in ("category", "defect", "split", "group", "licence")}
    trains, is_good = entry["split"] == "train", entry["defect"] == GOOD
    role = ("background" if is_good else "training") if trains else "test"
    yield {
        **told,
        "path": entry["image_path"],
        "sha256": entry["image_sha256"],
        "image_digest": entry["image_digest"],
        "kind": "image",
        "role": role,
    }
    if not is_good:
        role = "mask" if trains else "test"
        yield {**told, "path": entry["mask_path"], "sha256": entry["mask_sha256"], "image_digest": "", "kind": "mask", "role": role}


def _plan(jobs: Sequence[Job]) -> Iterator[pa.Table]:
    """The published rows of all rounds, in the order of the samples."""
    rows = merge(*map(_planned, jobs), key=lambda row: (row["defect"], row["ordinal"], row["attempt"]))
    while some := list(islice(rows, AT_ONCE)):
        yield pa.Table.from_pylist(some, schema=PLAN_SCHEMA)


def _planned(job: Job) -> Iterator[dict[str, Any]]:
    plan = pq.ParquetFile(job.folder / PLAN)
    for number in range(plan.num_row_groups):
        yield from plan.read_row_group(number).filter(is_published(job)).to_pylist()


def is_published(job: Job) -> pc.Expression:
    """Whether a row of a plan or of samples is published: it neither fills its batch nor is withdrawn."""
    withdrawn = pa.array(sorted(read_withdrawn(job.recipe.catalog).samples), pa.string())
    return job.is_asked_for & ~pc.field("sample_id").isin(withdrawn)


def _runs(job: Job) -> Iterator[pa.Table]:
    batches = job.batches()
    for start in range(0, len(batches), AT_ONCE):
        some = batches[start : start + AT_ONCE]
        yield pa.Table.from_pylist([{"batch_key": batch.key, **job.store.maker(batch.key)} for batch in some], RUN_COLUMNS)


def _write(tables: Iterable[pa.Table], schema: pa.Schema, path: Path) -> int:
    count = 0
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for table in tables:
            writer.write_table(table)
            count += len(table)
    sync(path)
    return count
