"""The versions of the data: commits of git, by tag or any other name, and the working tree. Nothing is checked out."""

import subprocess
from pathlib import Path
from typing import NamedTuple

from stage.core.errors import Refusal

WORKSPACE = "workspace"  # what DVC calls the working tree, too
_FIELD = "%09"  # a tab, which no git name can contain


class Version(NamedTuple):
    """A version: the name that it was asked for by, its commit and the commit's date; the working tree has neither commit nor date."""

    name: str
    commit: str = ""
    date: str = ""


def version_of(name: str) -> Version:
    """The version of that name: `workspace`, a tag, a branch, a commit. Raises Refusal if git knows none."""
    if name == WORKSPACE:
        return Version(WORKSPACE)
    commit = _git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    if not commit:
        _expect_git()
        tags = ", ".join(version.name for version in _tags()) or "none yet; commit dvc.lock and run `git tag v1` to make one"
        raise Refusal(f"Expected a tag, a branch, a commit or `{WORKSPACE}`, found {name!r}, which git does not know. Tags: {tags}.")
    return Version(name, commit, _git("show", "--no-patch", "--format=%cI", commit))


def every_version() -> list[Version]:
    """Every tag, the earliest first, the current commit if it has no tag, and the working tree. Several tags of a commit are one version."""
    if not _is_git():
        return [Version(WORKSPACE)]
    by_commit: dict[str, Version] = {}
    for version in _tags():
        known = by_commit.get(version.commit)
        by_commit[version.commit] = version._replace(name=f"{known.name}, {version.name}") if known else version
    head = _git("rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if head and head not in by_commit:
        by_commit[head] = version_of("HEAD")
    return [*by_commit.values(), Version(WORKSPACE)]


def versions_of(names: list[str] | None, *, every: bool) -> list[Version]:
    """The versions of these names, or every version, or the working tree if nothing is asked for."""
    if every and names:
        raise Refusal(f"Expected --rev or --all, found both, with {', '.join(names)}. Leave one out.")
    return every_version() if every else [version_of(name) for name in dict.fromkeys(names or [WORKSPACE])]


def _tags() -> list[Version]:
    """The tags of commits, the earliest commit first."""
    parts = _FIELD.join(
        ["%(refname:lstrip=2)", "%(objecttype)", "%(objectname)", "%(*objecttype)", "%(*objectname)", "%(creatordate:iso-strict)"]
    )
    lines = _git("for-each-ref", "--sort=refname", "--sort=creatordate", f"--format={parts}", "refs/tags").splitlines()
    found: list[Version] = []
    for line in lines:
        name, kind, commit, pointed_kind, pointed, date = line.split("\t")
        if "commit" in (kind, pointed_kind):
            found.append(Version(name, pointed or commit, date))
    return found


def _expect_git() -> None:
    if not _is_git():
        raise Refusal(f"Expected a git checkout in {Path.cwd()}, found none, so that `{WORKSPACE}` is the only version. Leave --rev out.")


def _is_git() -> bool:
    return bool(_git("rev-parse", "--git-dir"))


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
