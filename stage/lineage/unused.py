"""Which extracts no query over the tags, the current commit and the working tree reads any more: `stage gc` removes them."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from stage.core.durable import read_sealed
from stage.jobs.removal import remove
from stage.jobs.unused import STALE_S, Garbage, size_of
from stage.lineage.contents import record_of
from stage.lineage.extracts import STORE
from stage.lineage.layout import TABLES
from stage.lineage.trees import DATA, WorkingTree
from stage.lineage.versions import every_version

SUPERSEDED, UNREAD = "extracts of an earlier lineage", "extracts of versions that have no tag any more"
UNREADABLE = (OSError, ValueError, LookupError, TypeError, AttributeError)  # a record or manifest that is damaged, and names nothing


def remove_extracts(*, dry_run: bool) -> list[Garbage]:
    """Remove the extracts that are not used; with `dry_run` only list them. One that is asked for again is made again."""
    found = list(unused_extracts())
    for garbage in () if dry_run else found:
        remove(garbage.path)
    return found


def unused_extracts() -> Iterator[Garbage]:
    """Stores of other numbers, and files of this one that are not used; what was made within the hour may be of a query that runs."""
    for store in sorted(STORE.parent.glob("[!.]*")):
        if store.name != STORE.name:
            yield Garbage(store, size_of(store), SUPERSEDED)
    used = {"empty", *_of_commits(), *_of_working_tree()}
    for path in sorted(STORE.glob("[!.]*")):
        with suppress(FileNotFoundError):
            if _name(path.name) not in used and time.time() - path.stat().st_mtime > STALE_S:
                yield Garbage(path, size_of(path), UNREAD)


def _name(file: str) -> str:
    """What identifies the content of a file in the store, whatever its kind: `samples-SEAL.parquet`, `manifest-SEAL.json`."""
    return Path(file).stem.partition("-")[2]


def _of_commits() -> Iterator[str]:
    for version in every_version():
        with suppress(*UNREADABLE):
            entries = read_sealed(record_of(version))["entries"]
            yield from (version.commit, *(_name(file) for *_, file in entries))


def _of_working_tree() -> Iterator[str]:
    tree = WorkingTree(Path(DATA))
    for folder in TABLES:
        yield from tree.files(folder).values()
    for path in sorted(Path(DATA, "synthesize").glob("*/*/manifest.json")):
        with suppress(*UNREADABLE):
            manifest = read_sealed(path)
            yield from (manifest["seal"], *(told["sha256"] for told in manifest["tables"].values()))
