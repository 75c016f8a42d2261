"""Files and folders that are absent or complete at any time. Files and copied folders are synced before they appear. JSON with a seal."""

import errno
import json
import os
import secrets
import shutil
from collections.abc import Collection, Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from stage.core.digests import bytes_digest
from stage.core.errors import MachineError, Refusal
from stage.core.wording import counted

NO_FILE = (FileNotFoundError, NotADirectoryError, IsADirectoryError)  # errors of a path that has no file, on a disk that answers
FULL = (errno.ENOSPC, errno.EDQUOT)  # the disk has no room, or this user no share left


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Wait until all that is below a folder is on the disk."""
    for place, _, names in os.walk(folder):
        for path in (*(Path(place, name) for name in names), Path(place)):
            sync(path)


@contextmanager
def whole_file(path: Path, *, make_folder: bool = True) -> Generator[Path]:
    """Give a temporary path to write to, which becomes `path` at the end of the block; an error leaves `path` as it was.

    With `make_folder=False` a missing folder stays missing, and what is written into it is a FileNotFoundError.
    """
    if make_folder:
        path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{secrets.token_hex(8)}.partial")  # short: the name of `path` may be as long as names can be
    try:
        yield partial
        sync(partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync(path.parent)


def write_whole(text: str, path: Path, *, make_folder: bool = True) -> None:
    """Write a small text file, as `whole_file` does."""
    with whole_file(path, make_folder=make_folder) as partial:
        partial.write_text(text, encoding="utf-8")


def replace_folder(new: Path, output: Path) -> None:
    """Rename the complete folder `new` to `output`, replacing what is there. No kill leaves half a folder under that name.

    Neither does a power failure, if the folder's content was synced before, by `sync_folder` for example.
    """
    old = output.with_name(f".{output.name}.leaving")
    shutil.rmtree(old, ignore_errors=True)
    output.parent.mkdir(parents=True, exist_ok=True)
    if output.exists():
        output.rename(old)
    new.rename(output)
    sync(output.parent)
    shutil.rmtree(old, ignore_errors=True)


def refuse_foreign(folder: Path, files: Collection[str], what: str) -> None:
    """Raise Refusal unless `folder` may be replaced: it is absent, or holds only the `files` (paths below it) of an earlier `what`."""
    known = {str(path) for file in files for path in (PurePosixPath(file), *PurePosixPath(file).parents)}
    entries = (Path(place, name) for place, folders, names in os.walk(folder) for name in (*folders, *names))
    foreign = sorted({path.relative_to(folder).as_posix() for path in entries} - known)
    if foreign or (folder.exists() and not folder.is_dir()):
        others = f"a folder with {counted(len(foreign), 'other entry', 'other entries')}, such as {foreign[0]!r}" if foreign else "a file"
        raise Refusal(f"Expected an empty place or an earlier {what} at {folder}, found {others}. Name another folder, or remove this one.")


def copy_folder(folder: Path, output: Path, files: Iterable[str]) -> None:
    """Replace `output` by a copy of these files of a folder, which are paths below it."""
    arriving = output.with_name(f".{output.name}.arriving")
    shutil.rmtree(arriving, ignore_errors=True)
    arriving.mkdir(parents=True)
    for name in files:
        (arriving / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(folder / name, arriving / name)
    sync_folder(arriving)
    replace_folder(arriving, output)


@contextmanager
def refusing_full_disks() -> Generator[None]:
    """Turn the error of a full disk into a MachineError that says what to do; pass on every other error."""
    try:
        yield
    except Refusal:
        raise
    except Exception as error:
        if not _is_full(error):
            raise
        raise MachineError(
            f"Expected room on the disk for the work in {Path.cwd()}, found: {error}. Finished work is kept: make room, for which "
            "`stage gc --dry-run` says what nothing needs any more, and run the same command."
        ) from error


def _is_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in FULL
    return str(error).endswith(tuple(f"(os error {number})" for number in FULL))  # as safetensors says it


def write_sealed(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Write values as JSON with a `seal`, the SHA-256 of the text without it; returns both."""
    sealed = {**values, "seal": _seal(values)}
    write_whole(_text(sealed), path)
    return sealed


def read_sealed(path: Path) -> dict[str, Any]:
    """What `write_sealed` wrote, with its seal. Raises ValueError if a byte was changed, FileNotFoundError if there is no file."""
    return sealed_values(path.read_bytes())


def sealed_values(content: bytes) -> dict[str, Any]:
    """The values in the bytes of such a file; raises ValueError if a byte was changed."""
    try:
        values = json.loads(content)
    except RecursionError:
        raise ValueError("lists in lists, deeper than can be read") from None
    if not isinstance(values, dict) or "seal" not in values:
        raise ValueError("no seal, so that an earlier version or something else wrote it")
    if content != _text({**values, "seal": _seal({key: value for key, value in values.items() if key != "seal"})}).encode():
        raise ValueError("a seal that does not fit it, so that it was changed")
    return values


def _seal(values: Mapping[str, Any]) -> str:
    return bytes_digest(_text(values).encode())


def _text(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=2) + "\n"
