"""Train adapters and tokens for one category on the base."""

from pathlib import Path

from prefect import flow, task
from prefect.cache_policies import NO_CACHE

from flows.runtime import run
from stage.base import load_base
from stage.base_parts import base_digest
from stage.base_source import follow_pointer
from stage.checkpoints import save_checkpoint
from stage.device import device, dtype_of
from stage.digests import file_digest
from stage.examples import CATALOG, defect_images
from stage.params import Params, load_params
from stage.spool import publish, spool_folder, work_key
from stage.training import train as train_generator

CATALOGS = Path("data/prepare")
BASE = Path("data/pretrain")
OUTPUT = Path("data/train")


@flow(name="train")
def train(category: str) -> None:
    """Train one category and publish its checkpoint."""
    publish(fine_tune(category, load_params(), verb="train"), OUTPUT / category)


@task(cache_policy=NO_CACHE)
def fine_tune(category: str, params: Params, *, verb: str) -> Path:
    """Adapters and tokens, in a folder of the verb's spool; resumes an unfinished training."""
    base = follow_pointer(BASE)
    catalog = CATALOGS / category
    precision = str(dtype_of(params.train.precision, device(params.execution.device)))
    key = work_key(params.seed, params.base, params.method, params.train, precision, file_digest(catalog / CATALOG), base_digest(base))
    folder = spool_folder(verb, category, key)
    result = train_generator(load_base(base), defect_images(catalog, category), params, state=folder / "state.safetensors")
    with_unet, source = params.train.train_base, params.base.source
    save_checkpoint(result.generator, result.bounds, base, folder / "new", with_unet=with_unet, source=source)
    result.curve.to_csv(folder / "new" / "curve.csv", index=False)
    return folder / "new"


if __name__ == "__main__":
    run(train)
