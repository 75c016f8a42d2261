"""A disk in memory, for what happens on one that is small, full or apart."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_disk(place: Path, options: str) -> Iterator[bool]:
    """Mount a tmpfs with these options at an existing folder until the block ends; False where this user may mount none."""
    is_mounted = (
        not os.geteuid() and not subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(place)], check=False).returncode
    )
    try:
        yield is_mounted
    finally:
        if is_mounted:
            subprocess.run(["umount", str(place)], check=True)
