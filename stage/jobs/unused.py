"""What garbage collection removes besides jobs and batches: all but the last used works, and files that killed processes left behind."""

import os
import re
import time
from collections.abc import Collection, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from stage.core.work import BASE_WORK, works_in

STALE_S = 3600.0  # after which a file under a temporary name belongs to nobody
OURS = ("batches", "jobs")  # folders of the spool without works
REPLACED, ELSEWHERE = "trainings and results that were not used last", "trainings and results of other categories"
LEFT_BEHIND = "files that killed processes left behind"
KEY = re.compile(r"[0-9a-f]{16}")  # the name of a work's folder (`work_key`)


class Garbage(NamedTuple):
    """Something to remove: a folder, or a file with its sidecar; its size in bytes, and the reason."""

    path: Path
    size: int
    why: str
    detail: str = ""


def unused_works(spool: Path, categories: Collection[str]) -> Iterator[Garbage]:
    """Every work (`stage.core.work`) except the last used one of each name of these categories and of the base."""
    for verb in sorted(path for path in spool.glob("[!.]*") if path.is_dir() and path.name not in OURS):
        for name in sorted({path.parent for pattern in ("*/*", "*/*/*") for path in verb.glob(pattern) if _is_work(path)}):
            works = [path for path in works_in(name) if _is_work(path)]
            is_wanted = name.relative_to(verb).parts[0] in (*categories, BASE_WORK)
            for path in works[:-1] if is_wanted else works:
                yield Garbage(path, size_of(path), REPLACED if is_wanted else ELSEWHERE)


def left_behind(spool: Path) -> Iterator[Garbage]:
    """Files and folders under temporary names that were not touched for an hour."""
    places = [pattern for name in OURS for pattern in (f"{name}/.*", f"{name}/*/.*")]
    for path in sorted({path for pattern in (*places, "*/*/.*", "*/*/*/.*") for path in spool.glob(pattern)}):
        with suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > STALE_S:
                yield Garbage(path, size_of(path), LEFT_BEHIND)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder; what vanishes meanwhile counts as nothing."""
    files = [path] if path.is_file() else [Path(place, name) for place, _, names in os.walk(path) for name in names]
    size = 0
    for file in files:
        with suppress(FileNotFoundError):
            size += file.lstat().st_size
    return size


def _is_work(path: Path) -> bool:
    return path.is_dir() and KEY.fullmatch(path.name) is not None
