"""Where a version's tables lie below `data`, and what samples are called, by schema version. Loads no pyarrow: every query asks it."""

import re
from pathlib import PurePosixPath

METHOD = "stage"  # of everything published with schema 1, which has no folder per method
FIRST, EARLIER = "1", ("1", "2")
BESIDE = {  # tables that a manifest names, by its schema version
    "1": ("sources", "checkpoints", "runs"),
    "2": ("sources", "checkpoints"),
    "3": ("sources", "checkpoints", "verdict"),
}
_FORMER_ID = re.compile(r"[^/]+/[^/]+/\d{6,}")
TABLES = {  # folders of other tables: how deep one lies, its file, and its kind
    "prepare": (2, "catalog.parquet", "catalog"),
    "runs": (3, "runs.parquet", "runs"),
    "segment": (2, "scores.parquet", "scores"),
}


def whose(path: str) -> tuple[str, str] | None:
    """Category and method of a manifest, `synthesize/<category>/<method>/manifest.json`; None for another file."""
    parts = PurePosixPath(path).parts
    if parts[-1] != "manifest.json" or len(parts) not in (3, 4):
        return None
    return parts[1], parts[2] if len(parts) == 4 else METHOD


def todays_id(sample_id: str) -> str:
    """The id of a sample; `washer/chip/000012` of schema 1, which had no attempts, is `stage/washer/chip/000012/0`."""
    return f"{METHOD}/{sample_id}/0" if _FORMER_ID.fullmatch(sample_id) else sample_id
