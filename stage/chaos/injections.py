"""The faults that `stage chaos` injects, and where."""

import tempfile
from functools import partial
from pathlib import Path
from typing import NamedTuple

from stage.chaos.damage import DISKS, FILES, STALE, fill, flip, leave_locks, refuse, truncate
from stage.chaos.kills import MAKING, PUBLISHING, kill, kill_beside, kill_beside_publisher, publish_twice, run_two, survive
from stage.chaos.processes import end, spawned
from stage.chaos.small_disk import mount_small_disk
from stage.chaos.trials import Harm

FULL_DISK = "disk full"


class Injection(NamedTuple):
    """A fault, where it happens, and the function that injects it; `is_late`: into a trial in which everything is made and published."""

    fault: str
    place: str
    harm: Harm
    is_late: bool = False


def injections(*, with_disks: bool) -> list[Injection]:
    """Every injection; `with_disks`: also those that fill a disk, which a process must be able to mount."""
    return [
        *(Injection("killed", point, kill(point)) for point in MAKING),
        *(Injection("killed", point, kill(point), is_late=True) for point in PUBLISHING),
        *(Injection("killed beside another", point, kill_beside(point)) for point in MAKING),
        *(Injection("killed beside another", point, kill_beside_publisher(point), is_late=True) for point in PUBLISHING),
        *(Injection("taken for dead, lives on", point, survive(point)) for point in MAKING[:-1]),  # after it there is nothing to prevent
        Injection("two samplers at once", "whole run", run_two),
        Injection("two samplers at once", "publication", publish_twice, is_late=True),
        *(Injection(FULL_DISK, place, fill(place), is_late=place == "publication") for place in (DISKS if with_disks else ())),
        *(Injection("file too large", place, refuse(place), is_late=place == "publication") for place in DISKS),
        *(Injection("stale lock", kind, leave_locks(kind)) for kind in STALE),
        *(Injection("file truncated", place, truncate(place), is_late=True) for place in FILES),
        *(Injection("bit flipped", place, flip(place), is_late=True) for place in FILES),
    ]


def can_mount() -> bool:
    """Whether a process may mount a disk of its own here, by trying."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        return end(spawned(path / "log", partial(mount_small_disk, path / "disk", 1))) == 0
