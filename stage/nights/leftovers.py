"""Finds what killed processes and other tools left in a project, for `stage doctor`. Removes nothing."""

import json
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import time

import psutil

from stage.core.errors import ConfigError
from stage.core.wording import counted
from stage.core.work import SPOOL
from stage.jobs.unused import STALE_S, left_behind
from stage.nights.git_locks import is_abandoned, is_old, other_locks, shared_locks
from stage.nights.machine import Finding
from stage.nights.settings import Places
from stage.nights.versions import LOCK, made_size

UNFINISHED = {  # by the file that git leaves in its folder
    "MERGE_HEAD": ("a merge", "git merge --abort"),
    "CHERRY_PICK_HEAD": ("a cherry-pick", "git cherry-pick --abort"),
    "REVERT_HEAD": ("a revert", "git revert --abort"),
    "rebase-merge": ("a rebase", "git rebase --abort"),
    "rebase-apply": ("a rebase", "git rebase --abort"),
}
OUTPUTS = (".*.partial", ".*.leaving", ".*.arriving")  # temporary names in data, two or three folders deep
NAMED = 3  # files in one command


def leftovers(places: Places) -> Iterator[Finding]:
    """Locks, unfinished git operations, and files under temporary names."""
    yield from _git(places.root / ".git")
    for tree in (places.root, places.worktree):
        yield from _dvc(tree)
        yield from _partial(tree, "stage gc" if tree == places.root else f"cd {shlex.quote(str(tree))} && stage gc")


def _git(folder: Path) -> Iterator[Finding]:
    shared = shared_locks(folder)
    for lock in [*shared, *other_locks(folder)]:
        blocks, remove = lock in shared and is_old(lock), f"`rm {shlex.quote(str(lock))}`"
        if blocks and is_abandoned(lock):
            found = "older than the machine's start; the next night removes it"
            yield Finding("look", "git lock", f"{lock}, {found}", f"Or run {remove}.")
        elif blocks:
            found = "over an hour old; a killed git left it, and the night's git refuses to work"
            yield Finding("fails", "git lock", f"{lock}, {found}", f"Where `pgrep -a git` shows none: {remove}.")
        else:
            yield Finding("look", "git lock", f"{lock}; another git works, or was killed", f"Where none works: {remove}.")
    for name, (what, command) in UNFINISHED.items():
        if (folder / name).exists():
            yield Finding("look", "git", f"{what} is unfinished; the night runs what is committed", f"Finish it, or run `{command}`.")


def _dvc(tree: Path) -> Iterator[Finding]:
    if problem := _lock_problem(tree / LOCK):
        # HEAD, because git refuses to check out a file from an index in which it is unmerged
        yield Finding("fails", "DVC lock", problem, f"Run `git -C {shlex.quote(str(tree))} checkout HEAD {LOCK}`.")
    places = tree / ".dvc" / "tmp" / "rwlock"
    try:
        told = json.loads(places.read_text(encoding="utf-8"))
        holders = [*told.get("write", {}).values(), *(one for some in told.get("read", {}).values() for one in some)]
        alive = {int(one["pid"]) for one in holders if psutil.pid_exists(int(one["pid"]))}
    except FileNotFoundError:
        return
    except (OSError, ValueError, LookupError, TypeError, AttributeError):  # the disk was full when DVC wrote it
        yield Finding("fails", "DVC lock", f"{places} cannot be read, and DVC refuses to work", f"Where no DVC works: `rm {places}`.")
        return
    if alive:
        numbers = ", ".join(map(str, sorted(alive)))
        yield Finding("look", "DVC lock", f"process {numbers} works in {tree}, or has the number of one that did", f"Run `ps {numbers}`.")


def _lock_problem(lock: Path) -> str:
    """Why DVC cannot read its lock, such as conflict marks in it; empty if it can, or there is none."""
    try:
        made_size(lock)
    except ConfigError as error:
        return str(error)
    return ""


def _partial(tree: Path, collect: str) -> Iterator[Finding]:
    spool = [one.path for one in left_behind(tree / SPOOL)]
    if spool:
        yield Finding("look", "spool", f"{counted(len(spool), 'file')} under temporary names, of killed processes", f"Run `{collect}`.")
    old = _old(tree / "data")
    if old:
        yield Finding("look", "data", f"{counted(len(old), 'file')} under temporary names, such as {old[0]}", _removal(tree / "data", old))


def _old(data: Path) -> list[Path]:
    old: list[Path] = []
    for path in (path for name in OUTPUTS for folders in ("*", "*/*") for path in data.glob(f"{folders}/{name}")):
        with suppress(FileNotFoundError):  # a running flow has renamed it meanwhile
            if time() - path.stat().st_mtime > STALE_S:
                old.append(path)
    return old


def _removal(data: Path, old: list[Path]) -> str:
    if len(old) <= NAMED:
        return f"Run `{shlex.join(['rm', '-r', *map(str, old)])}`."
    names = " -o ".join(f"-name {shlex.quote(name)}" for name in OUTPUTS)
    find = f"find {shlex.quote(str(data))} -mindepth 2 -maxdepth 3 \\( {names} \\) -mmin +{STALE_S / 60:.0f}"
    return f"Run `{find}`, which lists them, and again with `-prune -exec rm -r {{}} +` behind it."
