"""The licence that a folder of images names in a file of its own, such as LICENSE."""

from collections.abc import Iterable
from pathlib import Path

NAMES = ("license", "licence", "copying")  # begin the file's name, in any case
LONGEST = 200  # characters of a title


def licences_in(folders: Iterable[Path]) -> dict[str, Path]:
    """The titles of the licences in these folders, the first line of each file, and the file; what cannot be read is left out."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.name.casefold().startswith(NAMES) and path.is_file() and (title := _title(path)):
                found.setdefault(title, path)
    return found


def _title(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError):
        return ""
    first = next((line.strip() for line in lines if line.strip()), "")
    return first if first.isprintable() and len(first) <= LONGEST else ""
