"""From parameters to a job: every row of a category is planned, and every batch named, before anything is rendered."""

import secrets
import shutil
from pathlib import Path

from stage.core.device import device
from stage.core.digests import file_digest, pixel_digest
from stage.core.durable import sync, write_sealed
from stage.core.errors import CorruptFileError
from stage.core.params import Params
from stage.datasets.examples import CATALOG
from stage.datasets.table import read_catalog
from stage.jobs.inputs import Recipe, deciding, digest_of
from stage.jobs.job import FACTS, Facts, Job, load_job
from stage.jobs.plan_table import BATCHES, write_plan
from stage.jobs.store import Spool
from stage.synthesis.plan import padded_plan
from stage.synthesis.schema import PLAN
from stage.synthesis.source import read_source


def make_job(category: str, *, catalog: Path, base: Path, checkpoint: Path, params: Params, spool: Spool) -> Path:
    """Plan a category and write its job, unless the very same job is there, whole; returns its folder.

    `catalog`: data/prepare/<category>, `base`: the base's folder, `checkpoint`: data/train/<category>.
    """
    recipe = Recipe(
        category=category,
        catalog=catalog,
        base=base,
        checkpoint=checkpoint,
        name=params.name,
        seed=params.seed,
        method=params.method,
        synthesize=params.synthesize,
        prompts=params.base.prompts,
        image_size=params.base.image_size,
        timestep_count=params.base.timestep_count,
        device=device(params.execution.device),
    )
    inputs = recipe.inputs()
    folder = spool.root / "jobs" / f"{category}-{digest_of(inputs)}"
    if (job := _whole(folder)) is None:
        _plan(recipe, inputs, folder)
    elif job.recipe != recipe:  # the same inputs, in other folders by now
        _write_facts(Facts(recipe=recipe, inputs=inputs, digests=job.digests), folder)
    return folder


def _whole(folder: Path) -> Job | None:
    """The job that is there; None where a disk or a killed removal has spoiled it, which then is planned again."""
    try:
        return load_job(folder)
    except CorruptFileError:
        return None


def _plan(recipe: Recipe, inputs: dict[str, str], folder: Path) -> None:
    """Under another name first; where two processes do so at once, the later one's work is dropped."""
    new = _beside(folder)
    new.mkdir(parents=True)
    try:
        catalog, source = read_catalog(recipe.catalog / CATALOG), read_source(recipe.catalog)
        pixels = {digest: pixel_digest(pair.image) for digest, pair in source.backgrounds.items()}
        rows = padded_plan(catalog, recipe.synthesize, recipe.prompts, source=source, settings=recipe.name, root_seed=recipe.seed)
        write_plan(rows, recipe.synthesize.batch, new, pixels=pixels, inputs=deciding(inputs))
        _write_facts(Facts(recipe=recipe, inputs=inputs, digests={name: file_digest(new / name) for name in (PLAN, BATCHES)}), new)
        _arrive(new, folder)
    finally:
        shutil.rmtree(new, ignore_errors=True)


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


def _write_facts(facts: Facts, folder: Path) -> None:
    write_sealed(facts.model_dump(mode="json"), folder / FACTS)
