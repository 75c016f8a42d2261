"""Unfinished work, outside DVC's outputs: kept over a kill, found again by the digest of everything that decides its result."""

import hashlib
import json
import shutil
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from stage.progress import check_stop

SPOOL = Path(".spool")


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
