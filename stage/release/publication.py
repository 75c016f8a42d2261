"""From finished batches to a published data set: as a whole or not at all, the manifest last, in memory that does not grow."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock

from stage.core.durable import replace_folder
from stage.core.processes import reached
from stage.core.progress import check_stop, track
from stage.jobs.failures import check_complete
from stage.jobs.heartbeat import present
from stage.jobs.job import Job, load_job
from stage.release.shards import Described, write_manifest, write_shards
from stage.release.tables import write_tables


def publish_jobs(folders: Sequence[Path], output: Path) -> Described:
    """Assemble the shards and tables of a category and method beside `output`, then give them its name; returns the manifest.

    `folders`: the jobs of all rounds, the first one first. Every batch is compared with its digest as it is read. Raises
    IncompleteRunError where one is missing or set aside, and CorruptFileError where one is damaged.
    """
    jobs = [load_job(folder) for folder in folders]
    first = jobs[0]
    for job in jobs:
        check_complete(job)
    output.parent.mkdir(parents=True, exist_ok=True)
    new = output.with_name(f".{output.name}.arriving")
    with present(first.folder), FileLock(first.folder / ".publishing"):
        shutil.rmtree(new, ignore_errors=True)
        shards = write_shards(samples_of(jobs), first.recipe.synthesize.shard_rows, new)
        tables = write_tables(jobs, new)
        reached("before_manifest")
        identity = {"method": first.recipe.method, "category": first.recipe.category}
        manifest = write_manifest(new, shards, **identity, job=first.folder.name, inputs=first.inputs, tables=tables)
        reached("before_publish")
        check_stop()
        replace_folder(new, output)
    return manifest


def samples_of(jobs: Sequence[Job]) -> Iterator[pa.Table]:
    """The published rows of all rounds, sorted by defect type, ordinal and attempt, a batch of the first round at a time."""
    first, *later = jobs
    again = [(job, batch, job.rows(batch.number)) for job in later for batch in job.batches()]
    batches = first.batches()
    for batch in track(batches, total=len(batches), label=f"publish {first.recipe.method} {first.recipe.category}"):
        tables = [first.read(batch)]
        planned = {(row.defect, row.ordinal) for row in first.rows(batch.number)}
        for job, other, rows in again:
            if wanted := [k for k, row in enumerate(rows) if (row.defect, row.ordinal) in planned]:
                tables.append(job.read(other).take(wanted))
        whole = pa.concat_tables(tables).filter(pc.field("ordinal") < first.recipe.synthesize.count)
        yield whole.sort_by([("ordinal", "ascending"), ("attempt", "ascending")]) if len(tables) > 1 else whole
