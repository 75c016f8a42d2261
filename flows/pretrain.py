"""Make the base available to every category: train a small one from scratch, or note where the given one lies."""

from contextlib import ExitStack
from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.runtime import run
from stage.core.durable import write_whole
from stage.core.params import Params, load_params
from stage.core.work import BASE_WORK, Work, work_key
from stage.datasets.examples import CATALOG, pairs_digest
from stage.datasets.table import read_catalog
from stage.jobs.heartbeat import present
from stage.jobs.removal import finish
from stage.model.base_pointer import TRAINED_HERE, needs_base, note_start, write_pointer
from stage.model.files import base_digest

CATALOGS = Path("data/prepare")
OUTPUT = Path("data/pretrain")
CODE = "flows.pretrain:train_from_scratch"


@flow(name="pretrain")
def pretrain() -> None:
    """Train the base, or locate it."""
    params = load_params()
    if not needs_base(params.methods):
        write_whole("No method of params.yaml needs a base.\n", OUTPUT / "none.txt")
    elif params.base.source == "scratch":
        for category in params.categories:
            read_catalog(CATALOGS / category / CATALOG)  # refuses without a prepared category
        with ExitStack() as users:
            train_from_scratch(params, users).publish(OUTPUT)
        if params.pretrain.start != "none":
            note_start(OUTPUT, params.pretrain.start)
    else:
        write_pointer(fetch_base(params.base.source), OUTPUT, params.base.source)


@task(cache_policy=NO_CACHE)
def train_from_scratch(params: Params, users: ExitStack) -> Work:
    """A small base on the data at hand, in use until `users` ends; resumes an unfinished training, or finds a finished one."""
    catalogs = [CATALOGS / category for category in params.categories]
    work = Work.of("pretrain", BASE_WORK, pretraining_key(catalogs, params))
    users.enter_context(present(work.folder, lease_s=params.execution.lease_s))
    if not work.is_finished():
        from stage.model.examples import pretraining_examples  # here, because a finished base needs no networks
        from stage.model.pretraining import pretrain as train_base

        base, curve = train_base(
            pretraining_examples(catalogs, params.base.prompts),
            params.pretrain,
            crop=params.method.crop,
            image_size=params.base.image_size,
            timestep_count=params.base.timestep_count,
            seed=params.seed,
            state=work.folder / "state.safetensors",
            execution=params.execution,
        )
        base.save(work.draft / TRAINED_HERE)
        write_pointer(work.draft / TRAINED_HERE, work.draft, params.base.source)
        curve.to_csv(work.draft / "curve.csv", index=False)
        finish(work, lease_s=params.execution.lease_s)
    return work


def pretraining_key(catalogs: list[Path], params: Params) -> str:
    """The key of everything that decides a base from scratch."""
    return work_key(
        CODE,
        seed=params.seed,
        base=params.base,
        pretrain=params.pretrain.model_dump(exclude={"start"}),
        start="" if params.pretrain.start == "none" else base_digest(Path(params.pretrain.start)),
        crop=params.method.crop,
        examples=[
            pairs_digest(folder, "train", good=good, columns=("category", "defect")) for folder in catalogs for good in (True, False)
        ],
    )


@task(cache_policy=NO_CACHE)
def fetch_base(source: str) -> Path:
    """The folder of a given base; the hub's client retries by itself."""
    from stage.model.base_source import locate  # here, because a finished base needs no networks

    return locate(source)


if __name__ == "__main__":
    run(pretrain)
