"""The store of finished batches, each under the digest of everything that decides its bytes."""

import os
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, Self

from stage.core.digests import bytes_digest, file_digest
from stage.core.durable import NO_FILE, read_sealed, sync, write_sealed
from stage.core.processes import reached
from stage.core.work import SPOOL
from stage.jobs.claims import Owner


class FencedError(RuntimeError):
    """Another process has taken over the work, so its result must not be kept."""


class BatchStore(NamedTuple):
    """Finished batches by key: immutable, and shared by all jobs and workers.

    A batch is finished when its file and its digest are both there and agree; the digest is written last.
    """

    root: Path = SPOOL

    def file(self, key: str) -> Path:
        """The path of a batch's file, whether it exists or not."""
        return self.root / "batches" / key[:2] / f"{key}.parquet"

    def is_there(self, key: str) -> bool:
        """Whether a batch's files exist. Does not read them: `finished` finds damage."""
        return _sidecar(self.file(key)).exists() and self.file(key).exists()

    def finished(self, key: str) -> Path | None:
        """The file of a finished batch, compared with its digest; None if it is missing or damaged."""
        return None if self.read(key) is None else self.file(key)

    def read(self, key: str) -> bytes | None:
        """The bytes of a finished batch; None if they are missing or do not match their digest. An OSError of a disk that is away is passed on."""
        try:
            content, told = self.file(key).read_bytes(), self._told(key)["sha256"]
        except (*NO_FILE, ValueError):
            return None
        return content if bytes_digest(content) == told else None

    def keep(
        self,
        key: str,
        write: Callable[[Path], None],
        may_publish: Callable[[], bool] = lambda: True,
        *,
        maker: Callable[[], Mapping[str, str]] = dict,
    ) -> Path:
        """Let `write` write the batch to a temporary file, and rename it once it is complete and on the disk.

        `may_publish` is called before the rename; if it returns False, a FencedError is raised and nothing is kept. `maker` returns who
        made the batch (`Maker`); that is stored beside it, not in it.
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
        # The folder is synced once, for both names: one without the other is an unfinished batch.
        write_sealed({"sha256": digest, "maker": dict(maker())}, _sidecar(file))
        return file

    def maker(self, key: str) -> dict[str, str]:
        """Who made a finished batch. Raises ValueError or OSError if the sidecar is damaged or gone."""
        return self._told(key)["maker"]

    def drop(self, key: str) -> None:
        """Delete a batch, its digest first, so that it is made again."""
        for path in (_sidecar(self.file(key)), self.file(key)):
            path.unlink(missing_ok=True)

    def hide(self, key: str) -> list["Hidden"]:
        """Rename a batch's files, its digest first, so that it counts as missing."""
        return [hidden for path in (_sidecar(self.file(key)), self.file(key)) if (hidden := Hidden.of(path)) is not None]

    def _told(self, key: str) -> dict[str, Any]:
        return read_sealed(_sidecar(self.file(key)))


def _sidecar(file: Path) -> Path:
    return file.with_suffix(".json")


class Hidden(NamedTuple):
    """A file of a batch under a temporary name; `path` is its own."""

    path: Path
    place: Path

    @classmethod
    def of(cls, path: Path) -> Self | None:
        """Hide a file; None if it is gone."""
        place = path.with_name(f".{secrets.token_hex(8)}.hidden")
        try:
            path.rename(place)
        except FileNotFoundError:
            return None
        os.utime(place)  # the batch is old, but must not count as left behind for an hour
        return cls(path, place)

    def restore(self) -> None:
        """Give the file its name again, unless a worker has made it anew."""
        with suppress(FileExistsError):
            os.link(self.place, self.path)
        self.remove()

    def remove(self) -> None:
        """Delete the file."""
        self.place.unlink(missing_ok=True)


class Maker(NamedTuple):
    """The columns of `runs.parquet` beside the batch's key; docs/data.md describes them."""

    token: str
    host: str
    pid: str
    device: str
    started: str
    finished: str
    prefect_run: str
    dvc_run: str

    @classmethod
    def now(cls, owner: Owner, device: str) -> Self:
        """The maker of a batch that its owner begins now."""
        gpus, prefect_run = (os.environ.get(name, "") for name in ("CUDA_VISIBLE_DEVICES", "STAGE_PARENT_FLOW_RUN"))
        dvc_run = " ".join(filter(None, (os.environ.get(name) for name in ("DVC_STAGE", "DVC_EXP_NAME"))))
        return cls(owner.token, owner.host, str(owner.pid), gpus or device, _now(), "", prefect_run, dvc_run)

    def done(self) -> Self:
        """The same maker with the time at which the batch was finished."""
        return self._replace(finished=_now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
