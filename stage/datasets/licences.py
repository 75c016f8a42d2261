"""The licence that a folder of images names in a file of its own, such as LICENSE."""

from collections.abc import Iterable
from pathlib import Path

NAMES = ("license", "licence", "copying")  # begin the file's name, in any case
LONGEST, BEGINNING = 200, 2_000  # characters: of a title, and of the part of a file where it is looked for


def licences_in(folders: Iterable[Path]) -> dict[str, Path]:
    """The titles of the licences in these folders, the first line of each file, and the file; what cannot be read or printed is left out.

    So is a link, which might lead to a file of somebody else's.
    """
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted(folder.iterdir()):
            is_named = path.name.casefold().startswith(NAMES) and path.name.isprintable()
            if is_named and path.is_file() and not path.is_symlink() and (title := _title(path)):
                found.setdefault(title, path)
    return found


def _title(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig") as file:  # which may as well be an archive of gigabytes
            lines = file.read(BEGINNING).splitlines()
    except (OSError, ValueError):
        return ""
    first = next((line.strip() for line in lines if line.strip()), "")
    return first if first.isprintable() and len(first) <= LONGEST else ""
