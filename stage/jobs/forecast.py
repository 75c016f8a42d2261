"""What samples will cost, from a short measurement on this machine before any is made."""

import shutil
import tempfile
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

from stage.core.device import device, limit_threads
from stage.core.durable import read_sealed
from stage.core.errors import MachineError
from stage.core.params import Params
from stage.core.progress import track
from stage.core.wording import apart, counted
from stage.datasets.examples import CATALOG
from stage.datasets.table import read_catalog
from stage.jobs.job import Batch, Job, load_job
from stage.jobs.planning import make_job
from stage.jobs.store import BatchStore
from stage.synthesis.batch import write_batch
from stage.synthesis.method import METHODS
from stage.synthesis.missed import missed_here
from stage.synthesis.plan import defects_of, first_round
from stage.synthesis.recipe import NO_NETWORKS, Recipe, is_ready, networks_of, recipe_of
from stage.synthesis.schema import MANIFEST
from stage.synthesis.source import read_source

PUBLISHED = 2  # copies beside the spool's: in the output, in DVC's cache


class Forecast(NamedTuple):
    """What is left to make of a category's job. Network calls are for whole batches; `samples` counts only published ones.

    `seconds` is one worker's time on this machine; `bytes` is the growth of spool, output and DVC's cache, assumed to be on one disk.
    Both are None if nothing was measured. `job` is None if the category is not trained yet, since a plan needs the checkpoint.
    """

    method: str
    category: str
    job: Path | None
    samples: int
    batches: int
    network_calls: int
    seconds: float | None
    bytes: int | None
    free_bytes: int

    def told(self) -> str:
        """The forecast for people, on one line."""
        counts = f"{counted(self.samples, 'sample')} of {self.category} to make by {self.method}, in {counted(self.batches, 'batch', 'batches')}, {counted(self.network_calls, 'network call')}"
        if self.job is None:
            return f"{counts}; how long they take is not known before `dvc repro train@{self.category}`"
        if self.seconds is None or self.bytes is None:
            return counts
        cost = f"{self.seconds / 60:.1f} min with one worker here and {self.bytes / 1e9:.3f} GB of disk"
        return f"{counts}, about {cost} ({self.free_bytes / 1e9:.1f} GB free)"


class Cost(NamedTuple):
    """The cost of a batch."""

    seconds: float
    bytes: int


def forecasts(categories: Sequence[str], params: Params, data: Path, *, measure: bool) -> list[Forecast]:
    """Plan these categories by every method, as `synthesize` would, and forecast their first rounds; untrained ones are only counted.

    Raises DataError for a category that is not prepared.
    """
    limit_threads(params.execution.threads)  # as many as a worker has
    on = device(params.execution.device)
    found: list[Forecast] = []
    for category in categories:
        catalog = read_catalog(data / "prepare" / category / CATALOG)
        for method in params.methods:
            recipe, is_ready = _recipe(method, category, params, data)
            if not is_ready:
                found.append(_uncosted(recipe, defects_of(catalog), data))
                continue
            job = load_job(make_job(recipe, BatchStore()))
            found.append(forecast(job, data / "synthesize" / category / method, measure_on=on if measure else None))
    return found


def _recipe(method: str, category: str, params: Params, data: Path) -> tuple[Recipe, bool]:
    """The recipe, without networks if they are not trained, and whether it is ready."""
    checkpoint = data / "train" / category
    ready = is_ready(method, checkpoint)
    networks = networks_of(method, pretrained=data / "pretrain", checkpoint=checkpoint) if ready else NO_NETWORKS
    recipe = recipe_of(method, category, params, catalog=data / "prepare" / category, **networks)
    missed = missed_here(data, category, params.synthesize)
    return recipe.model_copy(update={"missed": missed}), ready


def _uncosted(recipe: Recipe, defects: Collection[str], data: Path) -> Forecast:
    """The numbers of a first round that cannot be planned yet."""
    extra = {one.defect: one.extra for one in recipe.missed}
    count = sum(1 for _ in first_round(recipe.method, recipe.category, defects, recipe.synthesize, extra))
    return Forecast(
        method=recipe.method,
        category=recipe.category,
        job=None,
        samples=sum(map(recipe.count_of, defects)),
        batches=count,
        network_calls=count * network_calls(recipe),
        seconds=None,
        bytes=None,
        free_bytes=shutil.disk_usage(data).free,
    )


def forecast(job: Job, output: Path, *, measure_on: str | None) -> Forecast:
    """What is left of a job that is published to `output`; two of its batches are rendered on a device to measure it, and not kept."""
    left, recipe = job.left(), job.recipe
    counted = Forecast(
        method=recipe.method,
        category=recipe.category,
        job=job.folder,
        samples=sum(job.samples_in(batch.number) for batch in left),
        batches=len(left),
        network_calls=len(left) * network_calls(recipe),
        seconds=None,
        bytes=None,
        free_bytes=shutil.disk_usage(job.folder).free,
    )
    if measure_on is None:
        return counted
    # The first batch pays for loading and compiling; the last one shows another defect type, if there is one.
    cost = _measure(job, [*left[:1], *left[1:][-1:]], measure_on) if left else Cost(0.0, 0)
    return counted._replace(seconds=len(left) * cost.seconds, bytes=_growth(job, output, left, len(left) * cost.bytes))


def network_calls(recipe: Recipe) -> int:
    """How often the network is called for a batch; 0 for a method without networks."""
    if not METHODS[recipe.method].needs_checkpoint:
        return 0
    from stage.synthesis.methods.stage import moves  # here, because it imports the networks

    return len(moves(recipe.synthesize, recipe.timestep_count))


def check_disk(found: Sequence[Forecast]) -> None:
    """Raise MachineError if the disk cannot hold all forecasts that could be planned."""
    found = [one for one in found if one.job]
    size, samples = sum(one.bytes or 0 for one in found), sum(one.samples for one in found)
    if found and size > (free := min(one.free_bytes for one in found)):
        asked, there = apart(size / 1e9, free / 1e9, 2)
        raise MachineError(
            f"Expected {asked} GB free on the disk of {found[0].job}, for {counted(samples, 'sample')} of "
            f"{', '.join(dict.fromkeys(one.category for one in found))} in the spool, in data/synthesize and in DVC's cache, found {there} GB. "
            "Make room (`stage gc --dry-run` says what could go), or lower synthesize.count."
        )


def _measure(job: Job, batches: Sequence[Batch], on: str) -> Cost:
    """Seconds of the last of these batches, and their mean size in bytes."""
    recipe = job.recipe
    source, renderer = read_source(recipe.catalog), METHODS[recipe.method].renderer(recipe, on)
    seconds, sizes = 0.0, list[int]()
    with tempfile.TemporaryDirectory(dir=job.folder.parent, prefix=".measured-") as place:
        for batch in track(batches, total=len(batches), label=f"measure {recipe.category}"):
            begun, file = time.perf_counter(), Path(place) / f"{batch.number}.parquet"
            write_batch(renderer, job.rows(batch.number), source, job.judge, origin=job.origin(batch.key), file=file)
            seconds = time.perf_counter() - begun
            sizes.append(file.stat().st_size)
    return Cost(seconds, -(-sum(sizes) // len(sizes)))


def _growth(job: Job, output: Path, left: Sequence[Batch], size: int) -> int:
    """Bytes by which the disk will grow: `size` for what is left, and then everything once more per copy."""
    if not left and _is_published(job, output):
        return 0
    there = {batch.key for batch in job.batches()} - {batch.key for batch in left}
    return size + PUBLISHED * (size + sum(job.store.file(key).stat().st_size for key in there))


def _is_published(job: Job, output: Path) -> bool:
    try:
        return read_sealed(output / MANIFEST).get("job") == job.folder.name
    except (OSError, ValueError):
        return False
