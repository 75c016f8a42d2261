"""A category drawn, prepared and given an untrained checkpoint in about a second: what the tests of the samples start from."""

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import torch
from miniatures import SIZE, small_base

from stage.chaos.miniature import CATEGORY, draw
from stage.core.digests import file_digest
from stage.core.durable import read_sealed, write_sealed
from stage.core.model_params import Prompts, StageMethod
from stage.core.params import Params, load_params
from stage.core.synthesis_params import Synthesize, VerdictRule
from stage.datasets.catalog import prepare
from stage.datasets.examples import defect_images
from stage.jobs.job import JUDGE, RECORD, Job, load_job
from stage.jobs.planning import make_job, rounds
from stage.jobs.store import BatchStore
from stage.model.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from stage.model.generator import Generator
from stage.model.latents import CachedLatents
from stage.release.publication import publish_jobs
from stage.release.shards import write_manifest, write_shards
from stage.synthesis.batch import write_batch
from stage.synthesis.method import METHODS
from stage.synthesis.methods.stage import StageRenderer
from stage.synthesis.plan import defects_of, first_round
from stage.synthesis.recipe import Recipe, recipe_of
from stage.synthesis.rows import Identity, Origin, PlanRow
from stage.synthesis.schema import SCHEMA
from stage.synthesis.source import Source, read_source


class Factory(NamedTuple):
    """The folder that stands for `data`, its checkpoint, and the parameters of both."""

    data: Path
    params: Params
    checkpoint: Checkpoint

    @property
    def catalog(self) -> Path:
        return self.data / "prepare" / CATEGORY / "catalog.parquet"

    def renderer(self, method: StageMethod | None = None, **changes: object) -> StageRenderer:
        """Of the factory's parameters, some of `synthesize` changed, and with this section `method` if it is given."""
        params, settings = self.params, self.params.synthesize.model_copy(update=changes)
        return StageRenderer(
            self.checkpoint,
            method or params.method,
            settings,
            params.base.prompts,
            pasting=params.paste,
            image_size=params.base.image_size,
            device="cpu",
        )

    def source(self) -> Source:
        return read_source(self.catalog.parent)

    def recipe(self, method: str = "stage", params: Params | None = None, **changes: object) -> Recipe:
        """Of the factory's parameters, or of these, some of `synthesize` changed."""
        chosen = params or self.params
        chosen = chosen.model_copy(update={"synthesize": chosen.synthesize.model_copy(update=changes)})
        is_trained = METHODS[method].needs_checkpoint
        base, checkpoint = (self.data / "pretrain" / "base", self.data / "train" / CATEGORY) if is_trained else (None, None)
        return recipe_of(method, CATEGORY, chosen, catalog=self.catalog.parent, base=base, checkpoint=checkpoint)

    def job(
        self, spool: Path, params: Params | None = None, *, method: str = "stage", rejected: Sequence[Identity] = (), **changes: object
    ) -> Job:
        """The job of that recipe: of the first round, or of the one that tries again what was rejected."""
        return load_job(make_job(self.recipe(method, params, **changes), BatchStore(spool), rejected))

    def strict_job(self, spool: Path, above: float, **changes: object) -> Job:
        """The job of the first round, of a judge that asks for a margin of `above`: what an untrained network makes looks like nothing at all."""
        job = self.job(spool, **{"verdict": verdict(0.5), **changes})
        assert job.judge is not None
        stricter = (record._replace(threshold=record.threshold + above) for record in job.judge.records)
        job.judge._replace(records=tuple(stricter)).write(job.folder / JUDGE)
        told = read_sealed(job.folder / RECORD)
        told["digests"][JUDGE] = file_digest(job.folder / JUDGE)
        write_sealed({name: value for name, value in told.items() if name != "seal"}, job.folder / RECORD)
        return load_job(job.folder)

    def fill_rounds(self, first: Job) -> list[Job]:
        """Every round of a job rendered."""
        jobs = list[Job]()
        for folder in rounds(first.folder):
            jobs.append(load_job(folder))
            self.fill(jobs[-1])
        return jobs

    def fill(self, job: Job, numbers: Iterable[int] | None = None) -> list[int]:
        """Render what is left of a job's batches, or those of these numbers, in that order; returns which."""
        keys = {batch.number: batch.key for batch in job.batches()}
        chosen = [batch.number for batch in job.unfinished()] if numbers is None else list(numbers)
        source = self.source()
        is_trained = METHODS[job.recipe.method].needs_checkpoint  # the factory's checkpoint is loaded already
        renderer = self.renderer(**dict(job.recipe.synthesize)) if is_trained else METHODS[job.recipe.method].renderer(job.recipe, "cpu")
        for number in chosen:
            origin = job.origin(keys[number])
            write = partial(write_batch, renderer, job.rows(number), source, job.judge, origin=origin)
            job.store.keep(keys[number], lambda file, write=write: write(file=file))
        return chosen


def verdict(normal_pass: float) -> VerdictRule:
    """With so few pastes that calibration takes a second; 1.0 needs none and keeps every sample."""
    return VerdictRule(normal_pass=normal_pass, pastes=4)


def small_params() -> Params:
    """The repository's values at the smallest scale at which every part still runs."""
    params = load_params(Path(__file__).parents[1] / "params.yaml")
    changes = {
        "categories": (CATEGORY,),
        "methods": ("stage", "paste"),
        "prepare": {"layout": "mvtec", "image_size": SIZE, "licence": "CC0-1.0"},
        "base": {"image_size": SIZE},
        "method": {"token_count": 2},
        "train": {"adapter_widths": (8,), "timesteps_below": 1000},
        "synthesize": {
            "count": 6,
            "batch": 4,
            "shard_rows": 5,
            "start": "noise",
            "known_region": "posterior",
            "steps": 4,
            "verdict": verdict(1.0),
        },
    }
    sections = {name: getattr(params, name).model_copy(update=values) for name, values in changes.items() if isinstance(values, dict)}
    return params.model_copy(update={"categories": changes["categories"], "methods": changes["methods"], **sections})


def build(root: Path, side: int = SIZE) -> Factory:
    """Draw and prepare photographs of `side` px, and save and load a base and a checkpoint, below `root`."""
    params = small_params()
    params = params.model_copy(update={"prepare": params.prepare.model_copy(update={"image_size": side})})
    draw(root / "raw", side)
    data, base_folder = root / "data", root / "data" / "pretrain" / "base"
    prepare(params.prepare, params.categories, root / "raw", data / "prepare")
    folder = data / "prepare" / CATEGORY
    images, base = defect_images(folder, CATEGORY), small_base()
    base.save(base_folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        generator = Generator(base, CATEGORY, images.types, params.method.token_count, params.train.adapter_widths, residual=True)
    bounds = CachedLatents.encode(base, images, params.method, augment=False, image_size=SIZE).bounds
    save_checkpoint(generator, bounds, base_folder, data / "train" / CATEGORY, with_unet=False)
    return Factory(data, params, load_checkpoint(base_folder, data / "train" / CATEGORY))


def publish(root: Path) -> Path:
    """A data set as `synthesize` publishes it, somewhere below `root`."""
    factory = build(root)
    job = factory.job(root / "spool")
    factory.fill(job)
    publish_jobs([job.folder], factory.data / "out", lease_s=60.0)
    return factory.data / "out"


def make_plan(
    catalog: pd.DataFrame, params: Synthesize, templates: Prompts, *, source: Source, settings: str, root_seed: int
) -> list[PlanRow]:
    """The rows of a plan that are published."""
    whole = load_params(Path(__file__).parents[1] / "params.yaml")
    given = {"name": settings, "seed": root_seed, "synthesize": params, "base": whole.base.model_copy(update={"prompts": templates})}
    category = str(catalog.category.iloc[0])
    recipe = recipe_of("stage", category, whole.model_copy(update=given), catalog=Path(), base=None, checkpoint=None)
    row = METHODS["stage"].planner(recipe, catalog, source)
    batches = first_round("stage", category, defects_of(catalog), params)
    return [row(one) for batch in batches for one in batch if one.ordinal < params.count]


def plan_row(ordinal: int, **changes: object) -> PlanRow:
    """A row of nothing in particular."""
    row = PlanRow(
        sample_id=f"stage/part/crack/{ordinal:06d}/0",
        ordinal=ordinal,
        attempt=0,
        seed=2**62 + ordinal,
        settings="test",
        method="stage",
        category=CATEGORY,
        defect="crack",
        prompt="part crack",
        background_path="part/train/good/000.png",
        background_sha256="b" * 64,
        source_path="",
        source_sha256="",
        mask_path="part/ground_truth/crack/000_mask.png",
        mask_sha256="a" * 64,
        mask_kind="augmented",
        mask_turn=3,
        mask_shift_y=-2,
        mask_shift_x=5,
        mask_seed=0,
        mask_area=12,
        mask_digest="d" * 64,
        choices="",
        foreground="threshold",
        licence="CC0-1.0",
    )
    return row._replace(**changes)


def origin(**changes: object) -> Origin:
    """Of samples that nothing made."""
    whole = Origin("k" * 32, "c" * 64, "b" * 64, "p" * 32, "o" * 32, (999, 499), "torch 2.13.0", "cpu")
    return whole._replace(**changes)


DESCRIBED = {"method": "stage", "category": CATEGORY, "job": "none", "inputs": {}, "tables": {}}  # in a manifest, beside its shards


def publish_rows(rows: list[dict[str, Any]], shard_rows: int, folder: Path) -> dict[str, Any]:
    """Sample rows as they are published, without the tables beside the shards; returns the manifest."""
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    return write_manifest(folder, write_shards([table], shard_rows, folder), **DESCRIBED)
