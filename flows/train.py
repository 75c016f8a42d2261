"""Train adapters and tokens for one category on the base."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.runtime import run
from stage.core.device import device, dtype_name
from stage.core.durable import write_whole
from stage.core.params import Params, load_params
from stage.core.work import Work, work_key
from stage.datasets.examples import CATALOG, DefectImages, defect_images, pairs_digest
from stage.datasets.table import read_catalog
from stage.jobs.heartbeat import present
from stage.jobs.removal import finish
from stage.model.base_pointer import follow_pointer, needs_base
from stage.model.files import DENOISING, base_digest

if TYPE_CHECKING:
    import pandas as pd

    from stage.model.base import Base

CATALOGS = Path("data/prepare")
BASE = Path("data/pretrain")
OUTPUT = Path("data/train")
CODE = "flows.train:fine_tune"


@flow(name="train")
def train(category: str) -> None:
    """Train one category and publish its checkpoint."""
    params = load_params()
    if needs_base(params.methods):
        read_catalog(CATALOGS / category / CATALOG)  # refuses without a prepared category
        with ExitStack() as users:
            fine_tune(category, params, users, verb="train").publish(OUTPUT / category)
    else:
        write_whole("No method of params.yaml needs a training.\n", OUTPUT / category / "none.txt")


@task(cache_policy=NO_CACHE)
def fine_tune(category: str, params: Params, users: ExitStack, *, verb: str, with_denoising: bool = True) -> Work:
    """Adapters and tokens as a finished work of the verb, in use until `users` ends; resumes an unfinished training, or finds a finished one.

    `with_denoising`: also measure how well the base denoises real defects.
    """
    base, catalog = follow_pointer(BASE), CATALOGS / category
    work = Work.of(verb, category, training_key(catalog, base, params))
    users.enter_context(present(work.folder, lease_s=params.execution.lease_s))
    if not work.is_finished():
        from stage.model.base import load_base  # here, because a finished training needs no networks
        from stage.model.checkpoints import save_checkpoint
        from stage.model.training import train as train_generator

        state, images, loaded = work.folder / "state.safetensors", defect_images(catalog, category), load_base(base)
        errors = _denoising(loaded, images, params) if with_denoising else None
        result = train_generator(loaded, images, params, state=state)
        with_unet, source = params.train.train_base, params.base.source
        save_checkpoint(result.generator, result.bounds, base, work.draft, with_unet=with_unet, source=source)
        result.curve.to_csv(work.draft / "curve.csv", index=False)
        if errors is not None:
            errors.to_csv(work.draft / DENOISING, index=False)
        finish(work, lease_s=params.execution.lease_s)
    return work


def _denoising(base: "Base", images: DefectImages, params: Params) -> "pd.DataFrame":
    """How well the base denoises real defects, measured before it is trained, on the device of `execution`."""
    from stage.model.denoising import denoising_errors  # here, as above

    base.to(device(params.execution.device))
    errors = denoising_errors(base, images, params.method.crop, params.base.prompts, image_size=params.base.image_size, seed=params.seed)
    base.to("cpu")  # where a training begins
    return errors


def training_key(catalog: Path, base: Path, params: Params) -> str:
    """The key of everything that decides a checkpoint."""
    return work_key(
        CODE,
        seed=params.seed,
        base=base_digest(base),
        settings=params.base,
        method=params.method,
        train=params.train,
        precision=f"torch.{dtype_name(params.train.precision, device(params.execution.device))}",
        images=[pairs_digest(catalog, "train", good=good, columns=("defect",)) for good in (False, True)],
    )


if __name__ == "__main__":
    run(train)
