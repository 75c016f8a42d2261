"""Make the samples of one category: plan them, have workers render them batch by batch into the spool, publish them as shards."""

from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.runtime import run
from flows.workers import make_all
from stage.core.params import Params, load_params
from stage.jobs.planning import make_job
from stage.jobs.store import Spool
from stage.model.base_source import follow_pointer
from stage.release.publication import publish_job

CATALOGS = Path("data/prepare")
BASE = Path("data/pretrain")
CHECKPOINTS = Path("data/train")
OUTPUT = Path("data/synthesize")


@flow(name="synthesize")
def synthesize(category: str) -> None:
    """Plan, render, publish."""
    params = load_params()
    job = plan(category, CHECKPOINTS / category, params)
    make_all(job, params.execution)
    publish(job, OUTPUT / category)


@task(cache_policy=NO_CACHE)
def plan(category: str, checkpoint: Path, params: Params) -> Path:
    """The folder of the job: a row per sample to be made, and all that decides it."""
    catalog, base = CATALOGS / category, follow_pointer(BASE)
    return make_job(category, catalog=catalog, base=base, checkpoint=checkpoint, params=params, spool=Spool())


@task(cache_policy=NO_CACHE)
def publish(job: Path, output: Path) -> None:
    """Parquet shards, the tables beside them, and the manifest."""
    publish_job(job, output)


if __name__ == "__main__":
    run(synthesize)
