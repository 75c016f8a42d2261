"""The name of the file of withdrawals, and the nearest existing parent of a path."""

from contextlib import suppress
from pathlib import Path

WITHDRAWALS = Path("recalled.yaml")  # here, because its reader takes a tenth of a second to import, and usually nothing is recalled


def nearest_existing(path: Path) -> Path:
    """The path if it exists, else its nearest existing parent; for a path below a folder that may not be entered, that folder."""
    for place in (path.absolute(), *path.absolute().parents):
        with suppress(PermissionError):
            if place.exists():
                return place
    return Path(path.absolute().anchor)
