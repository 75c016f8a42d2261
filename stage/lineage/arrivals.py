"""Whether the data of a commit that could not be read may have arrived since: trying that takes seconds, for every such commit of every query."""

import os
import time
from pathlib import Path

from stage.core.digests import digest_of
from stage.lineage.layout import BESIDE

KEPT_S = 3600  # what arrives in a remote is not seen from here, so that a commit is tried again after this time
CONFIGS = (Path(".dvc/config"), Path(".dvc/config.local"))


def may_have_arrived(cache: str, state: str, record: Path) -> bool:
    """Whether to try again: something came into DVC's cache, its configuration or the schema versions that can be read changed, or the record is old."""
    return state != state_of(cache) or time.time() - record.stat().st_mtime > KEPT_S


def state_of(cache: str) -> str:
    """A digest that changes if a file comes into DVC's cache, which has 256 folders."""
    folders = sorted((entry.name, entry.stat().st_mtime_ns) for entry in os.scandir(cache)) if Path(cache).is_dir() else []
    return digest_of([folders, [path.stat().st_mtime_ns for path in CONFIGS if path.is_file()], sorted(BESIDE)])
