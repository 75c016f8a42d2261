"""Files that are absent or complete at any time, and on the disk once they are there; and facts under a seal."""

import hashlib
import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


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


def write_sealed(facts: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Write facts as JSON with a `seal`, the SHA-256 of the text without it; returns both."""
    sealed = {**facts, "seal": _seal(facts)}
    write_whole(_text(sealed), path)
    return sealed


def read_sealed(path: Path) -> dict[str, Any]:
    """What `write_sealed` wrote, with its seal; a ValueError where a single byte is another, FileNotFoundError where nothing is."""
    content = path.read_bytes()
    facts = json.loads(content)
    if not isinstance(facts, dict) or "seal" not in facts:
        raise ValueError("no seal, so that an earlier version or something else wrote it")
    if content != _text({**facts, "seal": _seal({key: value for key, value in facts.items() if key != "seal"})}).encode():
        raise ValueError("a seal that does not fit it, so that it was changed")
    return facts


def _seal(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(facts).encode()).hexdigest()


def _text(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, indent=2) + "\n"
