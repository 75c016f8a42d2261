"""Whether the files of a published folder are still those that its manifest names, where an extract would answer without reading them.

They are read once, and again only if a file has another size, time or inode: the tables by their SHA-256 (`expect_tables`), the shards
without their pictures (`keep_samples`), which are gigabytes and change no answer. `stage verify` reads the pictures too.
"""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from stage.core.digests import digest_if_readable, digest_of
from stage.core.durable import write_whole
from stage.core.errors import CorruptFileError
from stage.lineage.extracts import STORE
from stage.lineage.trees import DATA, MEND


def is_as_last_seen(folder: str, files: Mapping[str, str], manifest: Mapping[str, Any]) -> bool:
    """Whether no file that the manifest names has changed since `note_seen`; `files` as `Tree.files`."""
    note = STORE / _note(manifest)
    return note.is_file() and note.read_text(encoding="utf-8") == _state(folder, files, manifest)


def note_seen(folder: str, files: Mapping[str, str], manifest: Mapping[str, Any]) -> None:
    """Note the state of the files that were compared with the manifest."""
    with suppress(OSError):  # of a spool that only others may write, or a full disk: the next query compares them again
        write_whole(_state(folder, files, manifest), STORE / _note(manifest))


def expect_tables(folder: str, manifest: Mapping[str, Any]) -> None:
    """Compare every table beside the shards with its SHA-256 in the manifest; raises CorruptFileError, which names the first that differs."""
    for name, one in manifest["tables"].items():
        if (found := digest_if_readable(place := Path(DATA, folder, name))) != (sha256 := one["sha256"]):
            told = f"{found[:16]}…: it was changed or cut off" if found else "no file that can be read"
            raise CorruptFileError(f"Expected SHA-256 {sha256[:16]}… of {place} by its manifest, found {told}. {MEND}")


def _state(folder: str, files: Mapping[str, str], manifest: Mapping[str, Any]) -> str:
    names = [*(shard["path"] for shard in manifest["shards"]), *manifest["tables"]]
    return digest_of([files.get(f"{folder}/{name}") for name in names])


def _note(manifest: Mapping[str, Any]) -> str:
    return f"seen-{manifest['seal']}.txt"
