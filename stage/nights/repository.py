"""The git side of the night: its worktree, and its branch, which always holds the upstream branch's files and those that the night writes, OWN.

No merge can conflict, since the tree of every commit is made of these two. Every function may be repeated after a kill.
"""

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import NamedTuple, NoReturn

from stage.core.durable import whole_file
from stage.core.errors import ConfigError, Refusal
from stage.core.yaml_files import read_yaml
from stage.datasets.found import FILE
from stage.nights.git_locks import remove_abandoned
from stage.nights.programs import ProgramError, output_of
from stage.nights.settings import Nightly, Places
from stage.nights.versions import LOCK

OWN = (LOCK, FILE.name)  # the night's files: what it made, and what segmenters missed, an input of the next plan
PREFIX = "data-"  # of the tags of versions
# Prints DVC's configuration of the project in the working folder, of all levels and with absolute paths, as the text of a file, and its remotes.
# In a process of its own, since the factory does not import DVC.
CONFIGURATION = """
import json
from configobj import ConfigObj
from dvc.config import Config
told = dict(Config(".dvc", validate=False))
told["cache"].setdefault("dir", Config._resolve(".dvc", "cache"))
named = {kind: told.pop(kind) for kind in ("remote", "machine", "db")}
told |= {f'{kind} "{name}"': values for kind, some in named.items() for name, values in some.items()}
lines = ConfigObj({name: values for name, values in told.items() if values}).write()
print(json.dumps({"lines": lines, "remotes": [*named["remote"]]}))
"""
NOBODY = {"user.name": "STAGE's night", "user.email": "nightly@localhost"}  # if git knows no name


class Moved(Exception):
    """The remote branch has commits that the night's own lacks."""


class Repository(NamedTuple):
    """A project's git repository and the night's worktree in it."""

    places: Places
    settings: Nightly

    def git(self, *arguments: str, stdin: str = "", **variables: str) -> str:
        """What git prints in the worktree."""
        return output_of(["git", *arguments], self.places.worktree, stdin=stdin, **variables).strip()

    def has_remote(self) -> bool:
        """Whether git has the remote that the settings name."""
        return self.settings.remote in _git(self.places.root, "remote").split()

    def has_branch(self) -> bool:
        """Whether there is the night's own branch, which the first night makes."""
        return bool(_commit(self.places.root, f"refs/heads/{self.settings.branch}"))

    def fetch(self) -> None:
        """Fetch the remote's branches and versions, if there is a remote. Raises ProgramError if it cannot be reached."""
        if self.has_remote():
            remote = self.settings.remote
            versions = f"refs/tags/{PREFIX}*:refs/tags/{PREFIX}*"
            _git(self.places.root, "fetch", "--quiet", "--no-tags", remote, f"+refs/heads/*:refs/remotes/{remote}/*", versions)

    def unlock(self) -> list[Path]:
        """Remove locks that would stop the night's git, left by a git that was killed before the machine's last start; returns them."""
        return remove_abandoned(Path(_git(self.places.root, "rev-parse", "--path-format=absolute", "--git-common-dir")))

    def answers(self) -> bool:
        """Whether the remote can be reached."""
        try:
            _git(self.places.root, "ls-remote", "--heads", self.settings.remote)
        except ProgramError:
            return False
        return True

    def upstream(self) -> str:
        """The commit of the upstream branch, on the remote if there is one. Raises ConfigError if there is no such branch."""
        return (
            self._remote_commit(self.settings.upstream)
            or _commit(self.places.root, f"refs/heads/{self.settings.upstream}")
            or self._refuse()
        )

    def open_worktree(self) -> None:
        """Make the worktree if it is missing, and check out the upstream's files and the newest of OWN in it."""
        root, worktree, branch = self.places.root, self.places.worktree, self.settings.branch
        upstream = self.upstream()
        if not self._is_worktree():
            if worktree.exists() and any(worktree.iterdir()):
                raise Refusal(
                    f"Expected the night's git worktree, or nothing, at {worktree}, found other files. Run `git worktree repair {worktree}`, "
                    "or move them away."
                )
            _git(root, "worktree", "prune")
            start = _commit(root, f"refs/heads/{branch}") or self._remote_commit(branch) or upstream
            _git(root, "worktree", "add", "--quiet", "--no-checkout", "-B", branch, str(worktree), start)
        self._unlock()
        self.git("symbolic-ref", "HEAD", f"refs/heads/{branch}")
        self.git("read-tree", "--reset", "-u", self._tree(upstream))

    def commit(self, message: str) -> str:
        """Commit the upstream's files and the night's OWN, unless the branch already has exactly these; returns the commit."""
        head, upstream = self.git("rev-parse", "HEAD"), self.upstream()
        tree, remote = self._tree(upstream), self._remote_commit(self.settings.branch)
        parents = self.git("merge-base", "--independent", *filter(None, [head, remote, upstream])).split()
        if parents == [head] and self.git("rev-parse", f"{head}^{{tree}}") == tree:
            return head
        lines = [word for parent in parents for word in ("-p", parent)]
        commit = self.git(*self._identity(), "commit-tree", tree, *lines, "-F", "-", stdin=message)
        self.git("update-ref", "-m", "nightly", f"refs/heads/{self.settings.branch}", commit, head)
        return commit

    def push_branch(self) -> None:
        """Push the branch, if there is a remote. Raises Moved if the remote has commits that this one lacks."""
        if not self.has_remote():
            return
        try:
            self.git("push", "--quiet", "--porcelain", self.settings.remote, f"refs/heads/{self.settings.branch}")
        except ProgramError as error:
            if "fetch first" in error.output or "non-fast-forward" in error.output:
                raise Moved from None
            raise

    def tag(self, day: date, message: str) -> str:
        """Tag the branch's commit as the day's next version, unless it has a version's tag; returns the tag."""
        if here := _versions(self.git("tag", "--points-at", "HEAD")):
            return max(here, key=_number)
        following = max((number for at, number in map(_number, self.tags()) if at == day.isoformat()), default=0) + 1
        name = f"{PREFIX}{day.isoformat()}" + (f".{following}" if following > 1 else "")
        self.git(*self._identity(), "tag", "--annotate", "--file", "-", name, "HEAD", stdin=message)
        return name

    def push_tags(self, tags: Sequence[str]) -> None:
        """Push tags, if there are any."""
        if tags:
            self.git("push", "--quiet", self.settings.remote, *(f"refs/tags/{tag}" for tag in tags))

    def unpushed(self) -> list[str]:
        """The versions' tags that the remote lacks, the oldest first; none without a remote."""
        if not self.has_remote():
            return []
        there = self.git("ls-remote", self.settings.remote, f"refs/tags/{PREFIX}*").split()
        return [tag for tag in self.tags() if f"refs/tags/{tag}" not in there]

    def tags(self) -> list[str]:
        """The versions' tags, the oldest first."""
        return sorted(_versions(_git(self.places.root, "tag", "--list", f"{PREFIX}*")), key=_number)

    def lock_of(self, revision: str) -> str:
        """The text of `dvc.lock` in a commit; empty if it has none."""
        return self.text_of(LOCK, revision)

    def text_of(self, name: str, revision: str) -> str:
        """The text of a file in a commit; empty if there is no such file."""
        try:
            return _git(self.places.root, "show", f"{revision}:{name}")
        except ProgramError:
            return ""

    def _tree(self, upstream: str) -> str:
        """The tree of the upstream's files, with the newest readable version of OWN: the worktree's, else the branch's, else upstream's."""
        index = Path(self.git("rev-parse", "--git-dir")) / "night.index"
        self.git("read-tree", upstream, GIT_INDEX_FILE=str(index))
        for name in OWN:
            text = self._newest(name)
            if text is not None:
                blob = self.git("hash-object", "-w", "--stdin", stdin=text)
                self.git("update-index", "--add", "--cacheinfo", f"100644,{blob},{name}", GIT_INDEX_FILE=str(index))
        return self.git("write-tree", GIT_INDEX_FILE=str(index))

    def _newest(self, name: str) -> str | None:
        path = self.places.worktree / name
        with suppress(ConfigError):  # missing so far, or cut off by a kill
            if isinstance(read_yaml(path, name), dict):
                return path.read_text(encoding="utf-8")
        head = self.text_of(name, self.git("rev-parse", "HEAD"))
        return f"{head}\n" if head else None

    def _is_worktree(self) -> bool:
        listed = _git(self.places.root, "worktree", "list", "--porcelain").splitlines()
        return f"worktree {self.places.worktree.resolve()}" in listed and (self.places.worktree / ".git").is_file()

    def _unlock(self) -> None:
        """Remove locks left by a killed git or DVC of an earlier night; nothing else works in the worktree or on its branch."""
        own, shared = (Path(self.git("rev-parse", "--path-format=absolute", name)) for name in ("--git-dir", "--git-common-dir"))
        for lock in (own / "index.lock", own / "night.index.lock", own / "HEAD.lock", shared / f"refs/heads/{self.settings.branch}.lock"):
            lock.unlink(missing_ok=True)
        # DVC's lock: after a full disk it is empty, which DVC refuses; and a killed process's id may be another's by now.
        (self.places.worktree / ".dvc" / "tmp" / "rwlock").unlink(missing_ok=True)

    def _remote_commit(self, branch: str) -> str:
        return _commit(self.places.root, f"refs/remotes/{self.settings.remote}/{branch}") if self.has_remote() else ""

    def _identity(self) -> list[str]:
        known = _git(self.places.root, "config", "--name-only", "--get-regexp", r"^user\.(name|email)$", missing="").split()
        return [word for key, value in NOBODY.items() if key not in known for word in ("-c", f"{key}={value}")]

    def _refuse(self) -> NoReturn:
        raise ConfigError(
            f"Expected the branch {self.settings.upstream} of nightly.upstream in {self.places.root} or on its remote, found none. "
            "Commit to it, or correct nightly.yaml."
        )


def share_cache(root: Path, folder: Path) -> list[str]:
    """Let a worktree or clone in `folder` use the project's DVC cache and remotes, by a configuration with absolute paths; returns the remotes."""
    told = json.loads(output_of([sys.executable, "-"], root, stdin=CONFIGURATION))
    with whole_file(folder / ".dvc" / "config.local") as partial:
        partial.touch(mode=0o600)  # it may hold a password
        partial.write_text("\n".join(told["lines"]) + "\n", encoding="utf-8")
    return told["remotes"]


def _git(folder: Path, *arguments: str, missing: str | None = None) -> str:
    try:
        return output_of(["git", *arguments], folder).rstrip("\n")
    except ProgramError:
        if missing is None:
            raise
        return missing


def _commit(folder: Path, name: str) -> str:
    return _git(folder, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", missing="")


def _versions(names: str) -> list[str]:
    return [name for name in names.split() if _number(name)[0]]


def _number(tag: str) -> tuple[str, int]:
    """Day and number of a version's tag, by which tags are ordered; an empty day for any other tag."""
    day, _, number = tag.removeprefix(PREFIX).partition(".")
    with suppress(ValueError):
        if tag.startswith(PREFIX):
            return date.fromisoformat(day).isoformat(), int(number or 1)
    return "", 0
