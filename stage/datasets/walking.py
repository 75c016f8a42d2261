"""Every file below a folder, why one may not be opened, and paths as the disk spells them and as text that can be written anywhere."""

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from unicodedata import category, normalize

from stage.core.errors import DataError

SUFFIXES = {".png", ".jpg", ".jpeg", ".jfif", ".mpo", ".bmp", ".dib", ".tif", ".tiff", ".gif", ".webp", ".pbm", ".pgm", ".ppm", ".jp2"}


def walk(start: Path) -> Iterator[Path]:
    """Every file, link and unreadable folder below `start`; no link is followed. Raises DataError if `start` itself cannot be read."""
    folders = [start]
    while folders:
        folder = folders.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            if folder == start:
                raise DataError(
                    f"Expected a folder that may be read at {folder}, found: {error.strerror}. Correct the path, or its permissions."
                ) from None
            yield folder
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(Path(entry))
            else:
                yield Path(entry)


def trouble_of(path: Path, root: Path) -> str:
    """Why a file, or a folder that `walk` gives, may not be opened as an image of the data in `root`; empty if it may. Opens nothing."""
    if trouble := _trouble_of_name(path, path.relative_to(root)):
        return trouble
    try:
        is_link = path.is_symlink()
    except OSError as error:
        return f"it cannot be looked at ({error.strerror}): correct the permissions of its folder"
    if is_link and (trouble := _trouble_of_link(path, root)):
        return trouble
    if path.is_dir():
        return "a folder that cannot be read: correct its permissions"
    if not path.is_file():
        return "not a file"
    if path.suffix.lower() not in SUFFIXES:
        return "not an image file, by its extension"
    return ""


def _trouble_of_name(path: Path, relative: Path) -> str:
    if any("\udc80" <= letter <= "\udcff" for letter in path.as_posix()):
        return "its name is not valid UTF-8: rename it"
    if any(category(letter) == "Cc" for letter in relative.as_posix()):  # the lists of found defects and of recalls could not name it
        return "its name, or that of its folder, has a control character such as a line break: rename it"
    if any(part.startswith(".") for part in relative.parts):
        return "hidden: its name, or that of its folder, begins with a dot"
    return ""


def _trouble_of_link(path: Path, root: Path) -> str:
    try:
        is_inside = path.resolve(strict=True).is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a loop of links is a RuntimeError
        return "a link to nothing: remove it, or copy the file itself there"
    if not is_inside:
        return "a link that leaves the data folder: copy the file itself there"
    return "a linked folder, which is not followed: copy the folder itself there" if path.is_dir() else ""


def is_folder(path: Path) -> bool:
    """Whether there is a folder, or a link to one; False where the folder that holds it may not be entered."""
    try:
        return path.is_dir()
    except OSError:
        return False


def leads_nowhere(path: Path) -> bool:
    """Whether `path` is a link to nothing or to itself."""
    try:
        return path.is_symlink() and not path.exists()
    except OSError:
        return False


def spelled(root: Path, path: str) -> Path:
    """`path` below `root` as the disk spells it: a name that is not there may be there with its accents composed in another way."""
    place = root
    for part in PurePosixPath(path).parts:
        others = () if os.path.lexists(place / part) or not is_folder(place) else sorted(place.glob("*"))
        place = next((other for other in others if normalize("NFC", other.name) == normalize("NFC", part)), place / part)
    return place


def shown(path: str) -> str:
    """A path as text that can be written anywhere; bytes that are no UTF-8 become `\\xff`."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
