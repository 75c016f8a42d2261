"""Checks in advance what a run or a night needs. Each finding says what is wrong and the next command; nothing is changed."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from filelock import FileLock, Timeout

from stage.core.errors import ConfigError, Refusal
from stage.core.params import load_params
from stage.core.wording import counted
from stage.core.work import SPOOL
from stage.datasets.walking import is_folder
from stage.nights.holder import holder_of
from stage.nights.leftovers import leftovers
from stage.nights.machine import Finding, disks, gpu, proxies, temporary
from stage.nights.programs import DVC, output_of
from stage.nights.record import read_records
from stage.nights.remotes import code_remote, data_remotes
from stage.nights.repository import Repository
from stage.nights.schedule import schedule
from stage.nights.settings import SETTINGS, Nightly, Places, load_nightly
from stage.nights.silence import answers, silent_mounts
from stage.nights.versions import LOCK, made_size
from stage.nights.webhook import BAD_OUTCOMES

# Other versions of these have broken a run or a night, visible only in a server's log (pyproject.toml has the reasons).
BREAKING = ("fastapi", "sqlalchemy", "prefect", "dvc", "torch", "diffusers", "transformers", "numpy")
PIN = re.compile(r"([\w.-]+)==([\w.]+)")


def examine(root: Path) -> list[Finding]:
    """Every finding about a project, in the order in which to mend them."""
    places, ask = Places(root), partial(answers, silent=silent_mounts())
    first = {"packages": _packages, "proxy": proxies, "params.yaml": partial(_parameters, root), "git": partial(_code, places)}
    found = [one for what, look in first.items() for one in ask(what, look)]
    try:
        settings = load_nightly(root)
    except Refusal as error:
        return [*found, Finding("fails", SETTINGS.name, str(error), f"Run `git checkout {SETTINGS}`.")]
    night = (_branches, data_remotes, _disks, _left, _running, _night, schedule)
    for look in night:
        found += ask(look.__name__.strip("_"), partial(look, places, settings))
    return found


def _packages() -> Iterator[Finding]:
    differing = dict[str, str]()
    for line in requires("stage-factory") or []:
        pin = PIN.fullmatch(line)  # extras have a marker after the version
        if pin:
            name, wanted = pin.groups()
            try:
                if version(name).partition("+")[0] != wanted:  # torch adds its build after a plus
                    differing[name.lower()] = f"{name} {version(name)} for {wanted}"
            except PackageNotFoundError:
                differing[name.lower()] = f"no {name} for {wanted}"
    breaking = [told for name, told in differing.items() if name in BREAKING or told.startswith("no ")]
    others = [told for told in differing.values() if told not in breaking]
    if breaking:
        yield Finding("fails", "packages", ", ".join(breaking), "Run `rm .venv/.installed; make setup`.")
    if others:
        yield Finding("look", "packages", ", ".join(others), "Run `rm .venv/.installed; make setup`.")
    if not differing:
        yield Finding("fine", "packages", "as pinned")


def _parameters(root: Path) -> Iterator[Finding]:
    params = load_params(root / "params.yaml")
    yield from gpu(params)
    if params.prepare.layout == "demo":
        yield Finding(
            "look",
            "photographs",
            "the demo's, drawn by code: nothing is taken in",
            "Run `stage use-data <folder>`, and commit params.yaml.",
        )
        return
    source = Path(params.prepare.source)
    if not is_folder(source):
        yield Finding("fails", "photographs", f"no folder {source}", "Run `stage use-data <folder>`, and commit params.yaml.")
    elif not source.is_absolute():
        yield Finding(
            "fails", "photographs", f"{source} is relative; a night works in another folder", f"Run `stage use-data {source.resolve()}`."
        )
    elif not os.access(source, os.W_OK):
        yield Finding("fails", "photographs", f"{source} may not be written, so nothing can be taken in", "Correct its permissions.")
    if params.prepare.licence == "unknown":
        yield Finding("look", "licence", "unknown, and so is that of every sample", "Run `stage use-data <folder> --licence <licence>`.")


def _code(places: Places) -> Iterator[Finding]:
    changed = output_of(["git", "status", "--porcelain", "--untracked-files=no"], places.root).splitlines()
    has_lock = LOCK in output_of(["git", "ls-files", LOCK], places.root).split()
    if not has_lock:
        what = "there is none" if not (places.root / LOCK).exists() else "git does not track it"
        yield Finding(
            "look",
            LOCK,
            f"{what}; with it a commit is a version of the data",
            f"Run `dvc repro`, and then `git add {LOCK}` and `git commit`.",
        )
    if changed:
        names = ", ".join(line[3:] for line in changed[:5])
        yield Finding(
            "look", "git", f"{counted(len(changed), 'changed file')}, {names}; the night runs what is committed", "Run `git commit`."
        )
    elif has_lock:
        yield Finding("fine", "git", "everything is committed")


def _branches(places: Places, settings: Nightly) -> Iterator[Finding]:
    repository = Repository(places, settings)
    upstream = repository.upstream()
    only_here = ["git", "rev-list", "--count", "--ignore-missing", f"refs/heads/{settings.upstream}", f"^{upstream}", "--"]
    if ahead := int(output_of(only_here, places.root)):
        found = f"{settings.upstream} is {counted(ahead, 'commit')} ahead of {settings.remote}; the night runs what is pushed"
        yield Finding("look", "git", found, f"Run `git push {settings.remote} {settings.upstream}`.")
    if output_of(["git", "diff", "--name-only", upstream, "--", "params.yaml"], places.root):
        found = f"differs from the night's, of {upstream[:12]}; the checks of GPU, photographs and licence read the one here"
        yield Finding("look", "params.yaml", found, f"Run `git diff {upstream[:12]} -- params.yaml`.")
    if not repository.has_remote():
        yield Finding(
            "look", "git remote", f"none called {settings.remote}; versions stay here", f"Run `git remote add {settings.remote} <address>`."
        )
        return
    yield code_remote(places, settings, upstream)


def _disks(places: Places, settings: Nightly) -> Iterator[Finding]:
    """Room for a version in the worktree, the spool and the cache; on a disk without reflinks each is a copy."""
    size = 0
    with suppress(ConfigError):  # `leftovers` reports a damaged lock, and how to mend it
        size = made_size(places.worktree / LOCK)
    cache = Path(output_of([*DVC, "cache", "dir"], places.root).strip())
    source = Path(load_params(places.root / "params.yaml").prepare.source)
    large = {"worktree": places.worktree, "night's spool": places.worktree / SPOOL, "DVC cache": cache}
    more = {"spool": places.root / SPOOL, "photographs": places.root / source, "drop folder": places.drop(settings)}
    yield from disks({"disk": places.root, **large, **more, "temporary files": temporary()}, dict.fromkeys(large, size))


def _left(places: Places, _settings: Nightly) -> Iterator[Finding]:
    return leftovers(places)


def _running(places: Places, settings: Nightly) -> Iterator[Finding]:
    if not places.home.is_dir():
        return
    try:
        with FileLock(places.lock, timeout=0):
            yield Finding("fine", "night", "none runs")
    except Timeout:
        yield Finding(
            "look", "night", f"{holder_of(places)}, is at work; a night ends within {settings.limit_h:g} h", "Run `stage status`."
        )


def _night(places: Places, _settings: Nightly) -> Iterator[Finding]:
    last = next(iter(read_records(places.nights)), None)
    if last and last.outcome in BAD_OUTCOMES:
        yield Finding("look", "last night", f"{last.id} {last.outcome}: {last.message.splitlines()[0]}", "Run `stage status`.")
    if not places.webhook.is_file():
        yield Finding(
            "look", "webhook", f"no address in {places.webhook}; nobody is told of a failure", "Write one there (docs/nights.md)."
        )
