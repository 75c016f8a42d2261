"""Content digests of files and folders."""

import hashlib
from pathlib import Path


def folder_digest(folder: Path) -> str:
    """SHA-256 over the names and contents of a folder's files; the same wherever the folder lies."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest.update(f"{path.relative_to(folder).as_posix()}\0{file_digest(path)}\n".encode())
    return digest.hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
