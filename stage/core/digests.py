"""Content digests of files, folders and values."""

import hashlib
import json
from collections.abc import Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

LARGE = 2**26  # bytes; a smaller file may be written twice within one tick of the file system's clock


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files; the same wherever the folder lies."""
    return files_digest(folder, (path for path in folder.rglob("*") if path.is_file()))


def files_digest(folder: Path, files: Iterable[Path]) -> str:
    """The same over some files below a folder, given in any order."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{file_digest(path)}\n".encode())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file; a large one that does not change is read once in a process."""
    facts = path.stat()
    read = _remembered if facts.st_size >= LARGE else _read
    return read(path.absolute(), facts.st_size, facts.st_mtime_ns)


def dvc_digest(path: Path) -> str:
    """The MD5 by which DVC will name a file or folder in `dvc.lock`: of the file, or of its list of a folder's files, with `.dir` at its end."""
    if path.is_file():
        return _md5(path)
    found = ((one.relative_to(path).as_posix(), one) for one in path.rglob("*") if one.is_file())
    told = [{"md5": _md5(one), "relpath": name} for name, one in sorted(found)]
    return hashlib.md5(json.dumps(told).encode(), usedforsecurity=False).hexdigest() + ".dir"


def _md5(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, partial(hashlib.md5, usedforsecurity=False)).hexdigest()


def digest_if_readable(path: Path) -> str:
    """SHA-256 of a file; empty if it is not there or cannot be read. Pipes and devices are not opened, since that may block for ever."""
    try:
        return file_digest(path) if path.is_file() else ""
    except OSError:
        return ""


def _read(path: Path, _size: int, _mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_remembered = cache(_read)


def bytes_digest(content: bytes) -> str:
    """SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def digest_of(value: Any, size: int = 16) -> str:
    """A digest, `size` bytes in hexadecimal, of anything that JSON can say; the order of keys does not count."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=size).hexdigest()


def derived_seed(*identity: str | int) -> int:
    """63 bits from the parts of an identity, the root seed first."""
    text = "|".join(map(str, identity))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1
