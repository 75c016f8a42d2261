"""Garbage collection: removes jobs that no current parameters plan, and batches that no remaining job uses.

What a living process works on is never removed."""

import os
import secrets
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from stage.core.errors import ConfigError, CorruptFileError
from stage.core.params import Params
from stage.jobs.heartbeat import is_in_use
from stage.jobs.inputs import inputs_of, refuse_differences
from stage.jobs.job import Job, load_job
from stage.jobs.store import BatchStore

STALE_S = 3600.0  # after which a file under a temporary name belongs to nobody
OF_THE_MACHINE = ("device", "precision")  # a job for a GPU is wanted on a machine without one, too
CHANGED, UNPLANNED = "jobs that could not go on", "jobs that no parameters of today plan"
ORPHANED, LEFT_BEHIND = "batches of no job that is kept", "files that killed processes left behind"


class Garbage(NamedTuple):
    """Something to remove: a folder, or a file with its sidecar; its size in bytes, and the reason."""

    path: Path
    size: int
    why: str
    detail: str = ""


class Sum(NamedTuple):
    """Number and bytes of the garbage that has the same reason."""

    why: str
    pieces: int
    size: int


def remove_garbage(spool: BatchStore, wanted: Sequence[Params], *, lease_s: float, dry_run: bool) -> list[Garbage]:
    """Remove the jobs that could not continue today and the batches that no other job uses; with `dry_run` only list them.

    `wanted`: the parameters whose jobs are kept. A job that a living process works on or publishes is left alone.
    """
    # The batches first: whoever plans a job from here on finds it among the jobs below, or makes batches that are not among these.
    batches = _batches(spool)
    jobs = [garbage for folder in _jobs(spool) if (garbage := _unwanted(folder, wanted, lease_s))]
    if not dry_run:
        jobs = [garbage for garbage in jobs if _is_removed(garbage.path, lease_s)]
    gone = {garbage.path for garbage in jobs}
    kept = {key for folder in _jobs(spool) if folder not in gone for key in _keys(folder)}
    rest = [*(garbage for key, garbage in batches.items() if key not in kept), *_left_behind(spool)]
    for garbage in [] if dry_run else rest:
        _remove(garbage.path)
    return [*jobs, *rest]


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
        return Garbage(folder, _size(folder), CHANGED, str(error))
    return None if any(_is_of(job, params) for params in wanted) else Garbage(folder, _size(folder), UNPLANNED)


def _is_of(job: Job, params: Params) -> bool:
    recipe = job.recipe
    ours = (recipe.name, recipe.seed, recipe.guidance, recipe.synthesize, recipe.paste, recipe.prompts, recipe.image_size)
    theirs = (params.name, params.seed, params.method, params.synthesize, params.paste, params.base.prompts, params.base.image_size)
    return recipe.category in params.categories and recipe.method in params.methods and ours == theirs


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
        sizes[path.stem] += _size(path)
    return {key: Garbage(spool.file(key), size, ORPHANED) for key, size in sizes.items()}


def _left_behind(spool: BatchStore) -> Iterator[Garbage]:
    for path in sorted([*(spool.root / "batches").glob("*/.*"), *(spool.root / "jobs").glob(".*")]):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > STALE_S:
                yield Garbage(path, _size(path), LEFT_BEHIND)


def _size(path: Path) -> int:
    files = [path] if path.is_file() else [Path(place, name) for place, _, names in os.walk(path) for name in names]
    size = 0
    for file in files:
        with suppress(FileNotFoundError):
            size += file.lstat().st_size
    return size


def _is_removed(job: Path, lease_s: float) -> bool:
    """Remove a job, unless a process has begun to work on it in the meantime."""
    if is_in_use(job, lease_s=lease_s):
        return False
    _remove(job)
    return True


def _remove(path: Path) -> None:
    """Remove a folder or a file with its sidecar; what is already gone is no error."""
    with suppress(FileNotFoundError):
        if path.is_dir():
            hidden = path.with_name(f".{path.name}.{secrets.token_hex(4)}")  # at once: half a job would look like a damaged one
            shutil.rmtree(path.rename(hidden), onerror=_unless_gone)
        else:
            for file in sorted(path.parent.glob(f"{path.stem}.*")):  # the sidecar first: its name sorts before .parquet
                file.unlink(missing_ok=True)


def _unless_gone(_act: Any, _path: str, reason: Any) -> None:
    if not isinstance(reason[1], FileNotFoundError):
        raise reason[1]
