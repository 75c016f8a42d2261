"""Keeps the newest versions, and removes the others' data from DVC's cache and, if asked, from its remote; and old records and logs.

A version that is no longer kept loses its tag; `refs/retired/<tag>` still names its commit, with its parameters and digests.
DVC decides what is still needed, in a clone with every local and remote branch, and without the retired tags.
"""

import re
import shutil
from pathlib import Path
from typing import NamedTuple

from filelock import Timeout

from stage.core.errors import Refusal
from stage.nights.history import forget
from stage.nights.holder import held, holder_of
from stage.nights.programs import DVC, output_of
from stage.nights.repository import Repository, share_cache
from stage.nights.settings import Nightly, Places

RETIRED = "refs/retired"
REMOVED = re.compile(r"Removed (\d+) objects from (?:\S+ cache|(remote))\.")  # DVC's words, also with --dry
REMOVING = re.compile(r"Removing (.+)")  # only with --dry: the path of an object


class Retention(NamedTuple):
    """The tags that stay, and what goes: tags, DVC's objects in the cache with their bytes and in the remote, nights' records, beginnings of logs."""

    kept: list[str]
    retired: list[str]
    from_cache: int
    cache_bytes: int
    from_remote: int
    nights: list[str]
    logs: list[str]


def retain(places: Places, settings: Nightly, *, cloud: bool, dry_run: bool) -> Retention:
    """Keep the newest `settings.keep` versions; every branch, every other tag and both working trees also keep their data.

    `cloud`: also in DVC's remote, which others may use from other repositories. `dry_run`: change nothing. Raises Refusal while a night runs, and before the first.
    """
    try:
        with held(places, "`stage retain`"):
            repository = Repository(places, settings)
            if not repository.has_branch():
                raise Refusal(
                    f"Expected versions of the night on the branch {settings.branch} in {places.root}, found no such branch. "
                    "Run `stage nightly --once`, which makes it."
                )
            tags = repository.tags()
            kept, retired = tags[-settings.keep :], tags[: -settings.keep]
            if not dry_run:
                for tag in retired:
                    _retire(repository, tag)
            nights, logs = forget(places, settings, dry_run=dry_run)
            cache = Path(output_of([*DVC, "cache", "dir"], places.root).strip()).resolve()
            before = _size(cache)
            told = _collect(places, settings, [tag for tag in _tags(places) if tag not in retired], cloud=cloud, dry_run=dry_run)
            from_cache, from_remote = _removed(told)
            size = _size_of_listed(told, cache) if dry_run else before - _size(cache)
            return Retention(kept, retired, from_cache, size, from_remote, nights, logs)
    except Timeout:
        raise Refusal(f"Expected no night at work, found {holder_of(places)}. Wait for its end.") from None


def _retire(repository: Repository, tag: str) -> None:
    """Give the commit its new name before the tag is deleted, so that a kill loses nothing."""
    root = repository.places.root
    output_of(["git", "update-ref", f"{RETIRED}/{tag}", f"refs/tags/{tag}"], root)
    if repository.has_remote():
        output_of(["git", "push", "--quiet", repository.settings.remote, f"{RETIRED}/{tag}", f":refs/tags/{tag}"], root)
    output_of(["git", "tag", "--delete", tag], root)


def _removed(told: str) -> tuple[int, int]:
    """The numbers of objects that DVC says it removes from the cache and from the remote."""
    counts = [(int(number), bool(remote)) for number, remote in REMOVED.findall(told)]
    return sum(number for number, remote in counts if not remote), sum(number for number, remote in counts if remote)


def _size(cache: Path) -> int:
    """Bytes of DVC's objects in a cache."""
    return sum(path.stat().st_size for path in cache.glob("files/md5/*/*") if path.is_file())


def _size_of_listed(told: str, cache: Path) -> int:
    """Bytes of the objects of a cache that DVC says it would remove."""
    paths = (Path(line).resolve() for line in REMOVING.findall(told))
    return sum(path.stat().st_size for path in paths if path.is_relative_to(cache))


def _collect(places: Places, settings: Nightly, tags: list[str], *, cloud: bool, dry_run: bool) -> str:
    home = places.home / "retention"
    shutil.rmtree(home, ignore_errors=True)
    clone = home / "clone"
    clone.mkdir(parents=True)
    try:
        output_of(["git", "init", "--quiet"], clone)
        heads = ["+refs/heads/*:refs/heads/here/*", "+refs/remotes/*:refs/heads/there/*"]
        output_of(
            ["git", "fetch", "--quiet", "--no-tags", str(places.root), *heads, *(f"refs/tags/{tag}:refs/tags/{tag}" for tag in tags)], clone
        )
        output_of(["git", "checkout", "--quiet", "--detach", f"here/{settings.branch}"], clone)
        share_cache(places.root, clone)
        trees = [tree for tree in (places.root, places.worktree) if tree.is_dir()]
        if dry_run:  # the tags that would go are still there, and DVC asks each project for all of its tags
            trees = [_stand_in(tree, places.root, home / f"tree-{number}") for number, tree in enumerate(trees)]
        options = ["--cloud"] * cloud + ["--dry"] * dry_run
        return output_of(
            [*DVC, "gc", "--workspace", "--all-branches", "--all-tags", "--force", *options, "--projects", *map(str, trees)], clone
        ).strip()
    finally:
        shutil.rmtree(home, ignore_errors=True)


def _stand_in(tree: Path, root: Path, place: Path) -> Path:
    """A repository without history in which the files of a working tree lie, as links; returns its folder."""
    place.mkdir()
    output_of(["git", "init", "--quiet"], place)
    for name in output_of(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], tree).split("\0"):
        if (tree / name).is_file() and not name.startswith(".dvc/"):
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (place / name).symlink_to(tree / name)
    share_cache(root, place)
    return place


def _tags(places: Places) -> list[str]:
    return output_of(["git", "tag"], places.root).split()
