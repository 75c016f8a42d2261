"""The content of a folder of images as text: a line per file with the digest of its bytes, whatever its name or kind.

DVC compares this text instead of reading the folder itself: it would fail at a broken link, at a name that is not UTF-8 and at a
`.dvcignore`, and block for ever at a pipe.
"""

import json
import stat
from pathlib import Path

from stage.core.digests import file_digest
from stage.core.durable import write_whole
from stage.datasets.walking import is_folder, shown, walk

Known = dict[str, list[str | int]]


def inventory(root: Path, memory: Path) -> str:
    """Lines `<path relative to root>: <what it is>`, sorted; empty for a folder that is not there. Raises DataError if it may not be read.

    `memory` keeps the digests, each with size, time and inode of its file, so that only files that changed since are read again.
    """
    before = _known(memory)
    after: Known = {}
    lines = [_line(path, root, before, after) for path in walk(root)] if is_folder(root) else []
    if after != before:
        write_whole(json.dumps(after), memory)
    return "".join(f"{line}\n" for line in sorted(lines))


def _known(memory: Path) -> Known:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return known if isinstance(known, dict) else {}


def _line(path: Path, root: Path, before: Known, after: Known) -> str:
    name = json.dumps(shown(path.relative_to(root).as_posix()), ensure_ascii=False)
    try:
        link = f"link to {shown(path.readlink().as_posix())}, " if path.is_symlink() else ""
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            return f"{name}: {link}no file"
        key = shown(path.as_posix())
        state: list[str | int] = [found.st_mtime_ns, found.st_size, found.st_ino]
        known = before.get(key, [])
        digest = known[0] if known[1:] == state else file_digest(path)
        after[key] = [digest, *state]
    except OSError as error:
        return f"{name}: {error.strerror}"
    return f"{name}: {link}{digest}"
