"""Make the base available to every category: train a small one from scratch, or note where the given one lies."""

from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.runtime import run
from stage.base_source import TRAINED_HERE, locate, write_pointer
from stage.digests import folder_digest
from stage.examples import pretraining_examples
from stage.params import Params, load_params
from stage.pretraining import pretrain as train_base
from stage.spool import publish, spool_folder, work_key

CATALOGS = Path("data/prepare")
OUTPUT = Path("data/pretrain")


@flow(name="pretrain")
def pretrain() -> None:
    """Train the base, or locate it."""
    params = load_params()
    if params.base.source == "scratch":
        publish(train_from_scratch(params), OUTPUT)
    else:
        write_pointer(fetch(params.base.source), OUTPUT, params.base.source)


@task(cache_policy=NO_CACHE)
def train_from_scratch(params: Params) -> Path:
    """A small base on the data at hand; resumes an unfinished one."""
    key = work_key(params.seed, params.base, params.pretrain, params.method.crop, params.categories, folder_digest(CATALOGS))
    folder = spool_folder("pretrain", "base", key)
    examples = pretraining_examples([CATALOGS / category for category in params.categories], params.base.prompts)
    base, curve = train_base(
        examples,
        params.pretrain,
        crop=params.method.crop,
        image_size=params.base.image_size,
        timestep_count=params.base.timestep_count,
        seed=params.seed,
        state=folder / "state.safetensors",
        execution=params.execution,
    )
    base.save(folder / "new" / TRAINED_HERE)
    write_pointer(folder / "new" / TRAINED_HERE, folder / "new", params.base.source)
    curve.to_csv(folder / "new" / "curve.csv", index=False)
    return folder / "new"


@task(cache_policy=NO_CACHE)
def fetch(source: str) -> Path:
    """The folder of a given base; the hub's client tries again by itself."""
    return locate(source)


if __name__ == "__main__":
    run(pretrain)
