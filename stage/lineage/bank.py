"""Textures of a folder of pictures: samples of which the file is gone, and files of which no sample was drawn.

No version keeps such a folder, so samples of every version are compared with the folder as it is now.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from stage.core.digests import digest_if_readable
from stage.lineage.database import Database, Row, rows

COMPUTED_OR_OURS = ("procedural", "own", "others")  # values of `textures.source` that name no folder
_BANKS = "SELECT DISTINCT value FROM inputs WHERE name = 'textures.source' AND list_contains($asked, version) ORDER BY ALL"
_DRAWN = """
SELECT t.version, t.method, t.category, 'texture' AS role, t.path, t.sha256, count(*) AS samples, min(sample_id) AS first_sample
FROM textures t JOIN inputs i USING (version, category, method)
WHERE i.name = 'textures.source' AND i.value = $value AND list_contains($asked, t.version) GROUP BY ALL ORDER BY ALL
"""


def orphaned_textures(database: Database, asked: Sequence[str]) -> tuple[list[Row], list[Row]]:
    """Textures that samples of the versions `asked` name and the folders lack; and a row per folder with textures that no sample names."""
    gone: list[Row] = []
    unused: list[Row] = []
    for value in [row["value"] for row in rows(database, _BANKS, {"asked": list(asked)})]:
        if (source := json.loads(value)) in COMPUTED_OR_OURS:
            continue
        drawn = rows(database, _DRAWN, {"asked": list(asked), "value": value})
        gone += _gone(Path(source), drawn)
        unused += _unused(Path(source), {row["path"] for row in drawn})
    return gone, unused


def _gone(folder: Path, drawn: Sequence[Row]) -> Iterator[Row]:
    # Each file once, however many versions drew it.
    digests = {path: digest_if_readable(folder / path) for path in {row["path"] for row in drawn}}
    for row in drawn:
        if (found := digests[row["path"]]) != row["sha256"]:
            yield {**row, "why": "other bytes" if found else f"not in {folder}"}


def _unused(folder: Path, drawn: set[str]) -> Iterator[Row]:
    from stage.datasets.walking import is_folder, trouble_of, walk  # here, because most projects have no such folder

    files = [path.relative_to(folder).as_posix() for path in walk(folder) if not trouble_of(path, folder)] if is_folder(folder) else []
    if left := sorted({*files} - drawn):
        yield {"folder": str(folder), "textures": len(files), "without_a_sample": len(left), "first": left[0]}
