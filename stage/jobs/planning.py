"""From parameters to a job: every row of a round is planned, and every batch named, before anything is rendered."""

import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from glob import escape
from pathlib import Path

import pandas as pd
import pyarrow.compute as pc

from stage.core.digests import digest_of, file_digest
from stage.core.durable import sync, write_sealed
from stage.core.errors import CorruptFileError
from stage.datasets.examples import CATALOG
from stage.datasets.leaks import read_digests
from stage.datasets.recalled import read_withdrawn
from stage.datasets.table import training_part
from stage.jobs.inputs import deciding, inputs_of
from stage.jobs.job import JUDGE, RECORD, Job, JobRecord, load_job
from stage.jobs.plan_table import write_plan
from stage.jobs.store import BatchStore
from stage.synthesis.method import METHODS
from stage.synthesis.plan import defects_of, first_round, next_round
from stage.synthesis.recipe import Recipe
from stage.synthesis.rows import Identity
from stage.synthesis.source import Source, read_source

TOLD = 100  # bytes of a category's name in the name of its jobs: a file name has at most 255
COLUMNS = ["method", "category", "defect", "ordinal", "attempt", "verdict"]


def make_job(recipe: Recipe, store: BatchStore, rejected: Sequence[Identity] = ()) -> Path:
    """Plan a round and write its job, unless the very same job is there, whole; returns its folder.

    `rejected`: the samples of the round before to plan again; none for the first round.
    """
    inputs = inputs_of(recipe, rejected)
    folder = store.root / "jobs" / f"{recipe.method}-{_told(recipe)}-{digest_of(inputs)}"
    if (job := _whole(folder)) is None:
        write_job(recipe, inputs, rejected, folder)
    elif job.recipe != recipe:  # the same inputs, in other folders by now
        _write_record(JobRecord(recipe=recipe, inputs=inputs, rejected=job.rejected, digests=job.digests), folder)
    return folder


def rounds(first: Path) -> Iterator[Path]:
    """The jobs of all rounds, each planned when the one before is finished: samples that its verdicts reject, or a recall withdraws, are tried again."""
    yield (folder := first)
    job = load_job(folder)
    while again := tried_again(job):
        yield (folder := make_job(job.recipe, job.store, again))
        job = load_job(folder)


def tried_again(job: Job) -> list[Identity]:
    """The samples of a finished job that the next round plans again. Withdrawn attempts do not count towards `synthesize.attempts`."""
    withdrawn = read_withdrawn(job.recipe.catalog).samples
    rejected = rejected_by(job)
    if withdrawn:
        planned = (row for batch in job.batches() for row in job.rows(batch.number))
        rows = (row for row in planned if row.ordinal < job.recipe.count_of(row.defect))
        rejected = sorted({*rejected, *(row.identity for row in rows if row.sample_id in withdrawn)})
    return [one for one in rejected if one.attempt + 1 < job.recipe.synthesize.attempts + len(withdrawn & {*tries(one)})]


def tries(identity: Identity) -> Iterator[str]:
    """The ids of a sample's attempts, up to this one."""
    return (identity._replace(attempt=attempt).sample_id for attempt in range(identity.attempt + 1))


def rejected_by(job: Job) -> list[Identity]:
    """The published samples of a finished job that its verdicts reject."""
    found: list[Identity] = []
    for batch in job.batches():
        table = job.read(batch).select(COLUMNS)
        is_wanted = (pc.field("verdict") != "accepted") & job.is_asked_for
        found += [Identity(**{name: row[name] for name in Identity._fields}) for row in table.filter(is_wanted).to_pylist()]
    return sorted(found)


def _told(recipe: Recipe) -> str:
    """The category in the name of its jobs, cut; the digest tells categories apart."""
    return recipe.category.encode()[:TOLD].decode(errors="ignore")


def _whole(folder: Path) -> Job | None:
    """The job in a folder; None if there is none, or if a disk or a killed removal has damaged it. It is then planned again."""
    try:
        return load_job(folder)
    except CorruptFileError:
        return None


def write_job(recipe: Recipe, inputs: dict[str, str], rejected: Sequence[Identity], folder: Path) -> None:
    """Write a job under a temporary name, then rename it; of two processes at once, the later one's is dropped."""
    new = _beside(folder)
    new.mkdir(parents=True)
    try:
        catalog, source, params = read_digests(recipe.catalog / CATALOG), read_source(recipe.catalog), recipe.synthesize
        training = training_part(catalog)
        pixels = dict(zip(training.image_sha256, training.image_digest, strict=True))
        row = METHODS[recipe.method].planner(recipe, catalog, source)
        planned = first_round(recipe.method, recipe.category, defects_of(catalog), params, {one.defect: one.extra for one in recipe.missed})
        batches = ([row(one) for one in batch] for batch in (next_round(rejected, params.batch) if rejected else planned))
        write_plan(batches, new, count_of=recipe.count_of, pixels=pixels, inputs=deciding(inputs))
        if recipe.synthesize.verdict.is_on:
            _write_judge(recipe, catalog, source, new / JUDGE, _same_judges(recipe, inputs["judge"], folder.parent))
        digests = {path.name: file_digest(path) for path in sorted(new.iterdir())}
        _write_record(JobRecord(recipe=recipe, inputs=inputs, rejected=tuple(rejected), digests=digests), new)
        _arrive(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _write_judge(recipe: Recipe, catalog: pd.DataFrame, source: Source, path: Path, same: Iterable[Path]) -> None:
    """Calibrate the verdict once for all rounds, workers, and methods that paste alike, which then agree to the last bit."""
    for judge in same:
        with suppress(FileNotFoundError):  # removed by another process
            shutil.copyfile(judge, path)
            return
    from stage.synthesis.calibration import calibrate  # here, because it imports torch, which nothing else of planning needs

    calibrate(recipe, catalog, source).write(path)


def _same_judges(recipe: Recipe, digest: str, jobs: Path) -> Iterator[Path]:
    """The measures with that digest in the category's jobs, of earlier rounds or other methods."""
    others = sorted(jobs.glob(f"[!.]*-{escape(_told(recipe))}-*"))
    return (folder / JUDGE for folder in others if (job := _whole(folder)) and job.inputs["judge"] == digest)


def _arrive(new: Path, folder: Path) -> None:
    if folder.exists() and _whole(folder) is None:
        folder.rename(spoiled := _beside(folder))
        shutil.rmtree(spoiled, ignore_errors=True)
    try:
        new.rename(folder)
    except OSError:
        if _whole(folder) is None:
            raise
    sync(folder.parent)


def _beside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.{secrets.token_hex(4)}")


def _write_record(record: JobRecord, folder: Path) -> None:
    write_sealed(record.model_dump(mode="json"), folder / RECORD)
