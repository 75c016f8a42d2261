"""Garbage collection: removes jobs that no current parameters plan, batches that no remaining job uses, and all but the last used work of a name.

Nothing that a living process works on, here or on another machine, is removed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from stage.core.errors import ConfigError, CorruptFileError
from stage.core.params import Params
from stage.jobs.heartbeat import is_in_use
from stage.jobs.inputs import inputs_of, refuse_differences
from stage.jobs.job import Job, load_job
from stage.jobs.removal import remove, remove_unused
from stage.jobs.store import BatchStore, Hidden
from stage.jobs.unused import Garbage, left_behind, size_of, unused_works
from stage.synthesis.missed import missed_here

OF_THE_MACHINE = ("device", "precision")  # a job for a GPU is wanted on a machine without one, too
CHANGED, UNPLANNED = "jobs that could not go on", "jobs that no parameters of today plan"
ORPHANED = "batches of no job that is kept"


class Sum(NamedTuple):
    """Number and bytes of the garbage that has the same reason."""

    why: str
    pieces: int
    size: int


def remove_garbage(spool: BatchStore, wanted: Sequence[Params], *, lease_s: float, dry_run: bool) -> list[Garbage]:
    """Remove the jobs that could not continue today, the batches that no other job uses, and unused works.

    `wanted`: the parameters whose jobs are kept; the first one's categories keep their works. `lease_s`: seconds without a heartbeat
    after which a process on another machine counts as dead. `dry_run`: only list them.
    """
    batches = _batches(spool)
    jobs = [garbage for folder in _jobs(spool) if (garbage := _unwanted(folder, wanted, lease_s))]
    works = [garbage for garbage in unused_works(spool.root, wanted[0].categories) if not is_in_use(garbage.path, lease_s=lease_s)]
    if not dry_run:
        jobs, works = ([garbage for garbage in some if remove_unused(garbage.path, lease_s=lease_s)] for some in (jobs, works))
    orphans = _orphans(spool, batches, {garbage.path for garbage in jobs})
    left = list(left_behind(spool.root))
    if not dry_run:
        orphans = _sweep(spool, orphans)
        for garbage in left:
            remove(garbage.path)
    return [*jobs, *orphans, *works, *left]


def sums(found: Sequence[Garbage]) -> list[Sum]:
    """The garbage by reason."""
    sizes = {why: [garbage.size for garbage in found if garbage.why == why] for why in dict.fromkeys(garbage.why for garbage in found)}
    return [Sum(why, len(some), sum(some)) for why, some in sizes.items()]


def _jobs(spool: BatchStore) -> list[Path]:
    return [folder for folder in sorted((spool.root / "jobs").glob("[!.]*")) if folder.is_dir()]


def _unwanted(folder: Path, wanted: Sequence[Params], lease_s: float) -> Garbage | None:
    """The job as garbage; None if it is wanted."""
    if is_in_use(folder, lease_s=lease_s):
        return None
    try:
        job = load_job(folder)
        now = inputs_of(job.recipe.model_copy(update={"device": "cpu"}), job.rejected)
        ours, theirs = ({name: value for name, value in each.items() if name not in OF_THE_MACHINE} for each in (job.inputs, now))
        refuse_differences(ours, theirs, folder)
    except (CorruptFileError, ConfigError, FileNotFoundError) as error:
        return Garbage(folder, size_of(folder), CHANGED, str(error))
    return None if any(_is_of(job, params) for params in wanted) else Garbage(folder, size_of(folder), UNPLANNED)


def _is_of(job: Job, params: Params) -> bool:
    recipe = job.recipe
    ours = (recipe.name, recipe.seed, recipe.guidance, recipe.synthesize, recipe.paste, recipe.prompts, recipe.image_size)
    theirs = (params.name, params.seed, params.method, params.synthesize, params.paste, params.base.prompts, params.base.image_size)
    if not (recipe.category in params.categories and recipe.method in params.methods and ours == theirs):
        return False
    return recipe.missed == missed_here(recipe.catalog.parents[1], recipe.category, params.synthesize)


def _keys(folder: Path) -> set[str]:
    """The keys of a kept job's batches. Raises CorruptFileError if the job is damaged, since its batches are then unknown."""
    try:
        return {batch.key for batch in load_job(folder).batches()}
    except CorruptFileError:
        if folder.exists():
            raise
        return set()


def _batches(spool: BatchStore) -> dict[str, Garbage]:
    """Every batch that has a file, by its key, as garbage."""
    sizes = Counter[str]()
    for path in sorted((spool.root / "batches").glob("*/[!.]*")):
        sizes[path.stem] += size_of(path)
    return {key: Garbage(spool.file(key), size, ORPHANED) for key, size in sizes.items()}


def _orphans(spool: BatchStore, batches: Mapping[str, Garbage], gone: set[Path]) -> list[Garbage]:
    """The batches that no job uses except those in `gone`."""
    kept = {key for folder in _jobs(spool) if folder not in gone for key in _keys(folder)}
    return [garbage for key, garbage in batches.items() if key not in kept]


def _sweep(spool: BatchStore, orphans: Sequence[Garbage]) -> list[Garbage]:
    """Remove batches, except those of a job that was planned meanwhile; returns what is gone.

    They are hidden first, and the jobs are read again: a job planned before that gets its batches back, one planned later finds them
    missing and makes them.
    """
    hidden = {garbage.path: spool.hide(garbage.path.stem) for garbage in orphans}
    lost = _orphans(spool, {garbage.path.stem: garbage for garbage in orphans}, set())
    for garbage in orphans:
        _settle(hidden[garbage.path], is_lost=garbage in lost)
    return lost


def _settle(hidden: Sequence[Hidden], *, is_lost: bool) -> None:
    for one in hidden:
        one.remove() if is_lost else one.restore()
