"""Reads the published files of a version from the working tree, or through DVC's file system from a commit, its cache and its remotes.

DVC is imported here and nowhere else in the factory, and only for a commit that no earlier query has read (docs/decisions/0014).
"""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol, cast

from stage.core.digests import digest_of
from stage.core.errors import CorruptFileError
from stage.lineage.versions import Version

DATA = "data"
TODAYS = "remote-of-the-working-tree"
MEND = "Run `dvc checkout --force dvc.yaml` for what was published last, or `dvc repro` to make it again."


class Tree(Protocol):
    """The files of a version."""

    def files(self, folder: str) -> dict[str, str]:
        """The files below a folder of `data`, such as `synthesize/part/stage/manifest.json`, each with a digest of its content.

        Raises CorruptFileError if the version has such a folder and it is neither in the cache nor in a remote.
        """
        ...

    def open(self, path: str) -> BinaryIO:
        """A file to read; raises CorruptFileError if it cannot be had."""
        ...


def tree_of(version: Version) -> Tree:
    """The files of a version."""
    return CommitTree(version) if version.commit else WorkingTree(Path(DATA))


class WorkingTree:
    """The files in `data`; their content is identified by size and time, since a query must not read gigabytes of photographs."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def files(self, folder: str) -> dict[str, str]:
        """As `Tree.files`, without names that begin with a dot: those are still being written, or not ours."""
        found: dict[str, str] = {}
        for entry in _files_below(self._root / folder):
            facts, name = entry.stat(), entry.path[len(f"{self._root}/") :]
            found[name] = digest_of([name, facts.st_size, facts.st_mtime_ns, facts.st_ino])
        return dict(sorted(found.items()))

    def open(self, path: str) -> BinaryIO:
        """As `Tree.open`."""
        try:
            return (self._root / path).open("rb")
        except OSError as error:
            raise CorruptFileError(f"Expected {self._root / path}, found {error.strerror}. {MEND}") from None


def _files_below(folder: str | Path) -> Iterator[os.DirEntry[str]]:
    """Files below a folder, which need not exist. There are as many as shards, and `Path.glob` would take twice as long."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir(follow_symlinks=False):
                yield from _files_below(entry.path)
            elif entry.is_file():
                yield entry


class CommitTree:
    """The files that a commit names, read where DVC keeps them."""

    def __init__(self, version: Version) -> None:
        from dvc.api import DVCFileSystem  # pyright: ignore[reportPrivateUsage]  # dvc.api exports it under this name

        self._version = version
        self._dvc: Any = DVCFileSystem(rev=version.commit, config=_todays_remote())  # opens the commit at the first question

    @property
    def cache(self) -> str:
        """The folder of DVC's cache."""
        return str(self._dvc.repo.cache.local.path)

    def files(self, folder: str) -> dict[str, str]:
        """As `Tree.files`."""
        from dvc.exceptions import DvcException
        from dvc.repo.data import DataIndexDirError

        try:
            found = cast("dict[str, dict[str, Any]]", self._dvc.find(f"{DATA}/{folder}", detail=True, dvc_only=True))
        except (DvcException, DataIndexDirError, OSError) as error:
            raise self._missing(f"{DATA}/{folder}", error) from None
        return {PurePosixPath(name).relative_to(DATA).as_posix(): facts["md5"] for name, facts in sorted(found.items()) if facts.get("md5")}

    def open(self, path: str) -> BinaryIO:
        """As `Tree.open`."""
        from dvc.exceptions import DvcException
        from dvc.repo.data import DataIndexDirError

        try:
            return cast("BinaryIO", self._dvc.open(f"{DATA}/{path}", "rb"))
        except (DvcException, DataIndexDirError, OSError) as error:
            raise self._missing(f"{DATA}/{path}", error) from None

    def _missing(self, path: str, error: Exception) -> CorruptFileError:
        return CorruptFileError(
            f"Expected {path} of version {self._version.name} in DVC's cache or a remote, found {str(error).splitlines()[0]}. "
            "Run `dvc fetch --all-tags`, or `dvc push` where it was made."
        )


def _todays_remote() -> dict[str, dict[str, Any]] | None:
    """The default remote of the working tree, as configuration for a commit, whose own may be older than the remote.

    It has a name of its own here, since DVC would mix its settings with those that the commit has under the same name.
    """
    from dvc.config import Config
    from dvc.exceptions import DvcException

    try:
        config: Any = Config.from_cwd(validate=False)  # which the commit's is validated with
    except DvcException:  # the commit's own will do
        return None
    remote = config["remote"].get(config["core"].get("remote"))
    return {"core": {"remote": TODAYS}, "remote": {TODAYS: remote}} if remote else None
