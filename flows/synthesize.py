"""Make the samples of one category: plan, render batch by batch into the spool, publish as shards."""

from pathlib import Path

import pandas as pd
from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.runtime import run
from stage.base_source import follow_pointer
from stage.checkpoints import load_checkpoint
from stage.datasets.table import read_catalog
from stage.device import device, dtype_of
from stage.digests import file_digest
from stage.examples import CATALOG
from stage.params import Params, load_params
from stage.progress import track
from stage.shards import assemble
from stage.spool import publish, spool_folder, work_key
from stage.synthesis.batch import write_batch
from stage.synthesis.plan import batches, make_plan
from stage.synthesis.render import Renderer
from stage.synthesis.rows import PlanRow
from stage.synthesis.source import read_source

CATALOGS = Path("data/prepare")
BASE = Path("data/pretrain")
CHECKPOINTS = Path("data/train")
OUTPUT = Path("data/synthesize")


@flow(name="synthesize")
def synthesize(category: str) -> None:
    """Plan, render, publish."""
    params = load_params()
    rows = plan(category, params)
    finished = render(category, rows, params, checkpoint=CHECKPOINTS / category, verb="synthesize")
    publish(write_shards(finished, rows, params.synthesize.shard_rows), OUTPUT / category)


@task(cache_policy=NO_CACHE)
def plan(category: str, params: Params) -> list[PlanRow]:
    """A row per sample to be made."""
    catalog = read_catalog(CATALOGS / category / CATALOG)
    source = read_source(CATALOGS / category)
    return make_plan(catalog, params.synthesize, params.base.prompts, source=source, settings=params.name, root_seed=params.seed)


@task(cache_policy=NO_CACHE)
def render(category: str, rows: list[PlanRow], params: Params, *, checkpoint: Path, verb: str) -> list[Path]:
    """The files of all batches, in the verb's spool; those that it does not hold yet are made."""
    loaded = load_checkpoint(follow_pointer(BASE), checkpoint)
    where = device(params.execution.device)
    renderer = Renderer(loaded, params.method, params.synthesize, params.base.prompts, params.base.image_size, where)
    source = read_source(CATALOGS / category)
    key = work_key(
        params.name,
        params.seed,
        params.base,
        params.method,
        params.synthesize,
        str(dtype_of(params.synthesize.precision, device(params.execution.device))),
        loaded.digest,
        file_digest(CATALOGS / category / CATALOG),
    )
    folder = spool_folder(verb, category, key)
    work = list(batches(rows, params.synthesize.batch))
    files = [folder / f"{number:06d}.parquet" for number in range(len(work))]
    todo = [(batch, file) for batch, file in zip(work, files, strict=True) if not file.exists()]
    for batch, file in track(todo, total=len(files), label=f"synthesize {category}", done=len(files) - len(todo)):
        write_batch(renderer, batch, source, params.synthesize, checkpoint=loaded.digest, file=file)
    return files


@task(cache_policy=NO_CACHE)
def write_shards(finished: list[Path], rows: list[PlanRow], shard_rows: int) -> Path:
    """Parquet shards, the plan, and the manifest."""
    folder = finished[0].parent / "new"
    assemble(finished, shard_rows, folder)
    pd.DataFrame(rows).to_parquet(folder / "plan.parquet", index=False)
    return folder


if __name__ == "__main__":
    run(synthesize)
