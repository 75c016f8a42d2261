"""Garbage: what in the spool no plan of today wants. Only what is asked for is removed, and never what a living worker holds."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from stage.batches import Spool
from stage.claims import is_alive
from stage.jobs import Job, load_job
from stage.pairs import CorruptShardError
from stage.params import ConfigError, Params
from stage.recipes import refuse_differences

STALE_S = 3600.0  # after which a file under a temporary name belongs to nobody
OF_THE_MACHINE = ("device", "precision")  # a job for a GPU is wanted on a machine without one, too


class Garbage(NamedTuple):
    """Something to remove: a file or folder, its size in bytes, and why nothing wants it."""

    path: Path
    size: int
    why: str


def collect(spool: Spool, wanted: Sequence[Params], *, lease_s: float, dry_run: bool) -> list[Garbage]:
    """Remove from the spool, or with `dry_run` only name, the jobs that could not go on today and the batches of no other job.

    `wanted`: the parameters of today, and those of the ablation's variants. A job with a living claim is left alone.
    """
    jobs = {folder: _unwanted(folder, wanted, lease_s) for folder in sorted((spool.root / "jobs").glob("[!.]*"))}
    kept = {batch.key for folder, why in jobs.items() if not why for batch in load_job(folder).batches()}
    found = [Garbage(folder, _size(folder), why) for folder, why in jobs.items() if why]
    found += [*_batches(spool, kept), *_left_behind(spool)]
    for garbage in [] if dry_run else found:
        _remove(garbage.path)
    return found


def _unwanted(folder: Path, wanted: Sequence[Params], lease_s: float) -> str:
    """Why nobody wants a job; empty where somebody does."""
    if any(is_alive(claim, lease_s=lease_s) for claim in (folder / "claims").glob("[0-9]*.json")):
        return ""
    try:
        job = load_job(folder)
        now = job.recipe.model_copy(update={"device": "cpu"}).inputs()
        ours, theirs = ({name: value for name, value in each.items() if name not in OF_THE_MACHINE} for each in (job.inputs, now))
        refuse_differences(ours, theirs, folder)
    except (CorruptShardError, ConfigError, FileNotFoundError) as error:
        return f"it could not go on: {error}"
    return "" if any(_is_of(job, params) for params in wanted) else "no parameters of today plan it"


def _is_of(job: Job, params: Params) -> bool:
    recipe = job.recipe
    ours = (recipe.name, recipe.seed, recipe.method, recipe.synthesize, recipe.prompts, recipe.image_size)
    return ours == (params.name, params.seed, params.method, params.synthesize, params.base.prompts, params.base.image_size)


def _batches(spool: Spool, kept: set[str]) -> Iterator[Garbage]:
    for path in sorted((spool.root / "batches").glob("*/[!.]*")):
        if path.stem not in kept:
            yield Garbage(path, _size(path), "no job that is kept has that batch")


def _left_behind(spool: Spool) -> Iterator[Garbage]:
    for path in sorted([*(spool.root / "batches").glob("*/.*"), *(spool.root / "jobs").glob(".*")]):
        if time.time() - path.stat().st_mtime > STALE_S:
            yield Garbage(path, _size(path), "a killed process left it behind")


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())


def _remove(path: Path) -> None:
    remove: Callable[[Path], None] = shutil.rmtree if path.is_dir() else Path.unlink
    remove(path)
