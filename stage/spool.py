"""Unfinished work, outside DVC's outputs: kept over a kill, found again by the digest of everything that decides its result."""

import hashlib
import json
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel

from stage.digests import file_digest
from stage.faults import reached
from stage.progress import check_stop

SPOOL = Path(".spool")
NO_MAKER: Mapping[str, str] = {}


class FencedError(RuntimeError):
    """Someone else has taken over the work whose result was about to be kept."""


class Spool(NamedTuple):
    """Finished batches, each under the key of all that decides it: immutable, and shared by every job and worker.

    A batch is finished when its file and its digest are both there and agree; the digest is written last.
    """

    root: Path = SPOOL

    def file(self, key: str) -> Path:
        """Where the batch of that key lies, or would."""
        return self.root / "batches" / key[:2] / f"{key}.parquet"

    def is_there(self, key: str) -> bool:
        """Whether the batch was finished, by its names alone: for a search through many. Damage is found by `finished`."""
        return _sidecar(self.file(key)).exists() and self.file(key).exists()

    def finished(self, key: str) -> Path | None:
        """The file of a finished batch, read and compared with its digest; None where it is missing or damaged."""
        return None if self.read(key) is None else self.file(key)

    def read(self, key: str) -> bytes | None:
        """The bytes of a finished batch that agree with their digest; None where there are none."""
        file = self.file(key)
        try:
            told = _sidecar(file).read_text(encoding="utf-8").partition(" ")[0]
            content = file.read_bytes()
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        return content if hashlib.sha256(content).hexdigest() == told else None

    def keep(
        self,
        key: str,
        write: Callable[[Path], None],
        may_publish: Callable[[], bool] = lambda: True,
        *,
        maker: Mapping[str, str] = NO_MAKER,
    ) -> Path:
        """Let `write` make the batch's file under another name, and give it its own once it is whole and on the disk.

        `may_publish` is asked before that: a FencedError where it says no, and nothing is kept. `maker` says who made it, for
        the table of runs (`tables.RUN_COLUMNS`); it is no part of the batch.
        """
        file = self.file(key)
        file.parent.mkdir(parents=True, exist_ok=True)
        new = file.with_name(f".{key}.{secrets.token_hex(8)}.new")
        try:
            reached("before_write")
            write(new)
            reached("after_write")
            sync(new)
            reached("after_fsync")
            digest = file_digest(new)
            if not may_publish():
                raise FencedError(f"Expected to hold the claim of batch {key}, found another holder. Its result is dropped.")
            new.replace(file)
            reached("after_rename")
        finally:
            new.unlink(missing_ok=True)
        file.with_suffix(".json").write_text(json.dumps(dict(maker)) + "\n", encoding="utf-8")
        # The folder reaches the disk once, with both names: either of them without the other is an unfinished batch.
        write_whole(f"{digest}  {file.name}\n", _sidecar(file))
        return file

    def maker(self, key: str) -> dict[str, str]:
        """Who made a batch; nothing where that is not known."""
        try:
            return json.loads(self.file(key).with_suffix(".json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return {}

    def drop(self, key: str) -> None:
        """Forget a batch, so that it is made again; its digest goes first."""
        file = self.file(key)
        for path in (_sidecar(file), file.with_suffix(".json"), file):
            path.unlink(missing_ok=True)


def _sidecar(file: Path) -> Path:
    return file.with_suffix(".sha256")


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def work_key(*values: Any) -> str:
    """A short digest of parameters, input digests and the loaded code of `stage`: the same key, the same result."""
    described = json.dumps([_plain(value) for value in values], sort_keys=True)
    return hashlib.blake2b(f"{described}|{code_digest()}".encode(), digest_size=8).hexdigest()


def code_digest() -> str:
    """Digest of the source files of every module of `stage` that this process has imported."""
    files = {name: module.__file__ for name, module in sys.modules.items() if name.split(".")[0] == "stage"}
    digest = hashlib.blake2b(digest_size=16)
    for name, file in sorted(files.items()):
        digest.update(name.encode() + Path(str(file)).read_bytes())
    return digest.hexdigest()


def spool_folder(verb: str, category: str, key: str) -> Path:
    """Where unfinished work of that key lies; made when missing."""
    folder = SPOOL / verb / category / key
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_whole(text: str, path: Path) -> None:
    """Write a small file that is absent or complete at any time, and on the disk when this returns."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.write_text(text, encoding="utf-8")
        sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


def publish(folder: Path, output: Path) -> None:
    """Copy a complete folder of the spool to a DVC output, which appears in one rename; drop older work of its verb and category.

    The work itself stays until the next one: a kill before DVC has noted the output costs nothing then.
    """
    check_stop()
    verb, category, key, *_ = folder.relative_to(SPOOL).parts
    shutil.rmtree(output, ignore_errors=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    arrived = output.with_name(f".{output.name}.arriving")
    shutil.rmtree(arrived, ignore_errors=True)
    shutil.copytree(folder, arrived)
    arrived.replace(output)
    for older in (SPOOL / verb / category).iterdir():
        if older.name != key:
            shutil.rmtree(older)


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value
