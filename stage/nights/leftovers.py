"""Looks for what killed processes and other tools left in a project, for `stage doctor`. Removes nothing."""

import json
from collections.abc import Iterator
from pathlib import Path
from time import time

import psutil

from stage.core.work import SPOOL
from stage.core.yaml_files import read_yaml
from stage.jobs.unused import STALE_S, left_behind
from stage.nights.finding import Finding
from stage.nights.settings import Places

LOCK = "dvc.lock"
UNFINISHED = {  # by what git leaves in its folder
    "MERGE_HEAD": ("a merge", "git merge --abort"),
    "CHERRY_PICK_HEAD": ("a cherry-pick", "git cherry-pick --abort"),
    "REVERT_HEAD": ("a revert", "git revert --abort"),
    "rebase-merge": ("a rebase", "git rebase --abort"),
    "rebase-apply": ("a rebase", "git rebase --abort"),
}
OUTPUTS = (
    "*/.*.partial",
    "*/*/.*.partial",
    "*/.*.leaving",
    "*/*/.*.leaving",
    "*/.*.arriving",
    "*/*/.*.arriving",
)  # temporary names in data


def leftovers(places: Places) -> Iterator[Finding]:
    """Locks, unfinished work of git, and files under temporary names."""
    yield from _git(places.root / ".git")
    for tree in (places.root, places.worktree):
        yield from _dvc(tree)
    yield from _partial(places.root)


def _git(folder: Path) -> Iterator[Finding]:
    index = folder / "index.lock"
    if index.exists():
        yield Finding("look", "git lock", f"{index}; another git works, or was killed", f"Where none works: `rm {index}`.")
    for name, (what, command) in UNFINISHED.items():
        if (folder / name).exists():
            yield Finding("look", "git", f"{what} is unfinished; the night runs what is committed", f"Finish it, or run `{command}`.")


def _dvc(tree: Path) -> Iterator[Finding]:
    if (tree / LOCK).is_file() and not isinstance(read_yaml(tree / LOCK, LOCK), dict):  # raises for conflict marks
        yield Finding("fails", "DVC lock", f"{tree / LOCK} has no mapping", f"Run `git -C {tree} checkout {LOCK}`.")
    places = tree / ".dvc" / "tmp" / "rwlock"
    try:
        told = json.loads(places.read_text(encoding="utf-8"))
        holders = [*told.get("write", {}).values(), *(one for some in told.get("read", {}).values() for one in some)]
        alive = {int(one["pid"]) for one in holders if psutil.pid_exists(int(one["pid"]))}
    except FileNotFoundError:
        return
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # of a disk that was full when DVC wrote it
        yield Finding("fails", "DVC lock", f"{places} cannot be read, and DVC refuses to work", f"Where no DVC works: `rm {places}`.")
        return
    if alive:
        numbers = ", ".join(map(str, sorted(alive)))
        yield Finding("look", "DVC lock", f"process {numbers} works in {tree}, or has the number of one that did", f"Run `ps {numbers}`.")


def _partial(root: Path) -> Iterator[Finding]:
    spool = [one.path for one in left_behind(root / SPOOL)]
    if spool:
        yield Finding("look", "spool", f"{len(spool)} files under temporary names, of killed processes", "Run `stage gc`.")
    data = root / "data"
    old = [path for pattern in OUTPUTS for path in data.glob(pattern) if time() - path.stat().st_mtime > STALE_S]
    if old:
        yield Finding("look", "data", f"{len(old)} files under temporary names, such as {old[0]}", f"Run `rm -r {old[0]}`.")
