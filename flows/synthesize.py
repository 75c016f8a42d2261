"""Make a method's samples of one category, round by round: plan, have workers render batches, publish all rounds as shards."""

from contextlib import ExitStack
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.runtime import run
from flows.workers import make_all
from stage.core.params import Params, load_params
from stage.datasets.examples import CATALOG
from stage.datasets.table import read_catalog
from stage.jobs.heartbeat import present
from stage.jobs.planning import make_job, rounds
from stage.jobs.store import BatchStore
from stage.release.publication import publish_jobs, publish_runs
from stage.synthesis.missed import missed_here
from stage.synthesis.recipe import networks_of, recipe_of

CATALOGS = Path("data/prepare")
BASE = Path("data/pretrain")
TRAININGS = Path("data/train")
OUTPUT = Path("data/synthesize")
RUNS = Path("data/runs")  # apart from the samples, so that nothing is made again because another machine made them


@flow(name="synthesize")
def synthesize(category: str, method: str) -> None:
    """Plan, render, judge; plan again what was rejected; publish."""
    params = load_params()
    read_catalog(CATALOGS / category / CATALOG)  # refuses without a prepared category
    with ExitStack() as users:
        jobs = make_rounds(plan(category, method, TRAININGS / category, params), params, users)
        publish_samples(jobs, OUTPUT / category / method, params)
        publish_runs(jobs, RUNS / category / method, lease_s=params.execution.lease_s)


@task(cache_policy=NO_CACHE)
def plan(category: str, method: str, checkpoint: Path, params: Params) -> Path:
    """Plan the first round; returns the folder of its job."""
    networks = networks_of(method, pretrained=BASE, checkpoint=checkpoint)
    recipe = recipe_of(method, category, params, catalog=CATALOGS / category, **networks)
    return make_job(recipe.model_copy(update={"missed": missed_here(CATALOGS.parent, category, params.synthesize)}), BatchStore())


def make_rounds(first: Path, params: Params, users: ExitStack) -> list[Path]:
    """Make every round; returns the folders of their jobs, which are in use until `users` ends."""
    jobs: list[Path] = []
    for job in rounds(first):
        users.enter_context(present(job, lease_s=params.execution.lease_s))
        make_all(job, params.execution)
        jobs.append(job)
    return jobs


@task(cache_policy=NO_CACHE)
def publish_samples(jobs: list[Path], output: Path, params: Params) -> None:
    """Write the shards, the tables beside them, and the manifest."""
    publish_jobs(jobs, output, lease_s=params.execution.lease_s)


if __name__ == "__main__":
    run(synthesize)
