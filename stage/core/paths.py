"""Files of a project by name, and where a path that need not exist would lie."""

from contextlib import suppress
from pathlib import Path

WITHDRAWALS = Path("recalled.yaml")  # here, because what reads it takes a tenth of a second to load, and mostly nothing was recalled


def nearest_existing(path: Path) -> Path:
    """The path if there is something, else its nearest parent that is there; below a folder that may not be entered, that folder."""
    for place in (path.absolute(), *path.absolute().parents):
        with suppress(PermissionError):
            if place.exists():
                return place
    return Path(path.absolute().anchor)
