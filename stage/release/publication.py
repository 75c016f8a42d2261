"""From finished batches to a published data set: as a whole or not at all, the manifest last, in memory that does not grow."""

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from filelock import FileLock

from stage.core.durable import replace_folder
from stage.core.errors import CorruptFileError
from stage.core.processes import reached
from stage.core.progress import check_stop, track
from stage.jobs.failures import check_complete
from stage.jobs.heartbeat import present
from stage.jobs.job import Batch, Job, load_job
from stage.release.shards import Facts, write_manifest, write_shards
from stage.release.tables import write_tables


def publish_job(folder: Path, output: Path) -> Facts:
    """Assemble a job's shards and tables beside `output`, then give them its name; returns the manifest.

    Every batch is compared with its digest as it is read. Raises IncompleteRunError where one is missing or set aside, and
    CorruptFileError where one is damaged: workers look for that before they begin, and make it again.
    """
    job = load_job(folder)
    check_complete(job)
    output.parent.mkdir(parents=True, exist_ok=True)
    new = output.with_name(f".{output.name}.arriving")
    with present(folder), FileLock(folder / ".publishing"):
        shutil.rmtree(new, ignore_errors=True)
        shards = write_shards(_samples(job), job.recipe.synthesize.shard_rows, new)
        tables = write_tables(job, new)
        reached("before_manifest")
        manifest = write_manifest(new, shards, category=job.recipe.category, job=folder.name, inputs=job.inputs, tables=tables)
        reached("before_publish")
        check_stop()
        replace_folder(new, output)
    return manifest


def _samples(job: Job) -> Iterator[pa.Table]:
    batches = job.batches()
    for batch in track(batches, total=len(batches), label=f"publish {job.recipe.category}"):
        table = _read(job, batch)
        yield table.filter(pc.field("ordinal") < job.recipe.synthesize.count)


def _read(job: Job, batch: Batch) -> pa.Table:
    content = job.spool.read(batch.key)
    table = None if content is None else pq.ParquetFile(io.BytesIO(content)).read()
    if table is None or set(table["batch_key"].to_pylist()) != {batch.key}:
        raise CorruptFileError(
            f"Expected batch {batch.number} of {job.folder} as it was kept, found it changed or gone, at {job.spool.file(batch.key)}. "
            "Run `dvc repro synthesize` again, which makes it again."
        )
    return table
