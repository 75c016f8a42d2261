"""Publishes finished batches as a data set, and a table of who made them: all or nothing, a few batches in memory at a time."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock

from stage.core.durable import replace_folder, write_whole
from stage.core.processes import reached
from stage.core.progress import check_stop, track
from stage.jobs.failures import check_complete
from stage.jobs.heartbeat import present
from stage.jobs.job import Batch, Job, load_job
from stage.release.card import card
from stage.release.croissant import CROISSANT, croissant
from stage.release.shards import JsonObject, write_manifest, write_shards
from stage.release.tables import is_published, write_runs, write_tables
from stage.synthesis.schema import CARD, PLAN

AT_HAND = 16  # batches of later rounds that are kept in memory


def publish_jobs(folders: Sequence[Path], output: Path, *, lease_s: float) -> JsonObject:
    """Assemble the shards and tables of a category and method beside `output`, then rename them to it; returns the manifest.

    `folders`: the jobs of all rounds, the first one first. `lease_s`: seconds, as in `execution`. Every batch is compared with its
    digest as it is read. Raises IncompleteRunError if one is missing or set aside, and CorruptFileError if one is damaged.
    """
    jobs = [load_job(folder) for folder in folders]
    first = jobs[0]
    for job in jobs:
        check_complete(job)
    manifest: JsonObject = {}

    def write(new: Path) -> None:
        shards = write_shards(samples_of(jobs), first.recipe.synthesize.shard_rows, new)
        tables = write_tables(jobs, new)
        reached("before_manifest")
        identity = {"method": first.recipe.method, "category": first.recipe.category}
        manifest.update(write_manifest(new, shards, **identity, job=first.folder.name, inputs=first.inputs, tables=tables))
        write_whole(card(manifest), new / CARD)
        write_whole(croissant(manifest, pq.read_table(new / PLAN, columns=["licence"])["licence"].unique().to_pylist()), new / CROISSANT)
        reached("before_publish")
        check_stop()

    _publish(write, jobs, output, lease_s)
    return manifest


def publish_runs(folders: Sequence[Path], output: Path, *, lease_s: float) -> None:
    """Replace `output` by the table of who made each batch of these jobs, where and when, which differs from run to run."""
    jobs = [load_job(folder) for folder in folders]
    _publish(lambda new: write_runs(jobs, new), jobs, output, lease_s)


def _publish(write: Callable[[Path], None], jobs: Sequence[Job], output: Path, lease_s: float) -> None:
    """Have `write` fill a new folder, and rename it to `output`; meanwhile the jobs are marked as in use, and others that publish them wait."""
    output.parent.mkdir(parents=True, exist_ok=True)
    new = output.with_name(f".{output.name}.arriving")
    with ExitStack() as stack:
        for job in jobs:
            stack.enter_context(present(job.folder, lease_s=lease_s))
        stack.enter_context(FileLock(jobs[0].folder / ".publishing"))
        shutil.rmtree(new, ignore_errors=True)
        write(new)
        replace_folder(new, output)


def samples_of(jobs: Sequence[Job]) -> Iterator[pa.Table]:
    """The published rows of all rounds, sorted by defect type, ordinal and attempt; a table per batch of the first round."""
    first, *later = jobs
    again = _places(later)
    read = lru_cache(AT_HAND)(Job.read)
    batches = first.batches()
    for batch in track(batches, total=len(batches), label=f"publish {first.recipe.method} {first.recipe.category}"):
        table = first.read(batch)
        samples = zip(table["defect"].to_pylist(), table["ordinal"].to_pylist(), strict=True)
        attempts = [read(job, other).slice(row, 1) for sample in samples for job, other, row in again.get(sample, ())]
        whole = pa.concat_tables([table, *attempts]).filter(is_published(first))
        yield whole.sort_by([("ordinal", "ascending"), ("attempt", "ascending")]) if attempts else whole


def _places(jobs: Sequence[Job]) -> dict[tuple[str, int], list[tuple[Job, Batch, int]]]:
    """Where later attempts are, by defect type and ordinal: job, batch, and row of the batch."""
    places: dict[tuple[str, int], list[tuple[Job, Batch, int]]] = {}
    for job in jobs:
        for batch in job.batches():
            for number, row in enumerate(job.rows(batch.number)):
                places.setdefault((row.defect, row.ordinal), []).append((job, batch, number))
    return places
