"""Finds photographs, masks, textures and networks by a path below the data folder, by a file, or by a digest or its beginning."""

import re
from collections.abc import Sequence
from pathlib import Path

from stage.core.digests import file_digest
from stage.lineage.database import Database, Row, rows
from stage.lineage.extracts import ALSO_NAMED

DIGEST = re.compile(r"[0-9a-f]{8,64}")
_SOURCES = """
SELECT path, sha256, kind, role, defect, "group", list(DISTINCT version ORDER BY version) AS versions FROM {table}
WHERE path = $name OR sha256 IN ($sha256, $name) OR (image_digest = $name AND $is_digest) OR (starts_with(sha256, $name) AND $is_digest)
    OR (path, version) IN (SELECT (mask_path, version) FROM catalog WHERE mask_path IS NOT NULL AND status = 'accepted' AND
        (image_path = $name OR image_sha256 IN ($sha256, $name) OR (starts_with(image_sha256, $name) AND $is_digest)))
GROUP BY ALL
"""
# The same of the catalog, as stage/release/tables.py publishes it, which a test compares: photographs that are prepared, and not published yet.
PREPARED = """(
    SELECT version, image_path AS path, image_sha256 AS sha256, image_digest, 'image' AS kind, defect, "group",
        CASE WHEN split = 'test' THEN 'test' WHEN defect = 'good' THEN 'background' ELSE 'training' END AS role
    FROM catalog WHERE status = 'accepted'
    UNION ALL SELECT version, mask_path, mask_sha256, '', 'mask', defect, "group", CASE WHEN split = 'test' THEN 'test' ELSE 'mask' END
    FROM catalog WHERE status = 'accepted' AND mask_path IS NOT NULL
)"""
_TEXTURES = """
SELECT path, sha256, 'texture' AS kind, 'texture' AS role, '' AS defect, '' AS "group", list(DISTINCT version ORDER BY version) AS versions FROM textures
WHERE (path = $name OR sha256 = $sha256 OR (starts_with(sha256, $name) AND $is_digest)) AND sha256 NOT IN (SELECT sha256 FROM sources)
GROUP BY ALL
"""


def sources_of(database: Database, source: str) -> list[Row]:
    """The source in every version that knows it, with its mask if it is the photograph of a defect; from the catalogs if no samples have it among theirs."""
    file = Path(source)
    digest = file_digest(file) if file.is_file() else "no file"
    known = {**_named(source), "sha256": digest}
    found = rows(database, _SOURCES.format(table="sources"), known)
    found += rows(database, _TEXTURES, known) if also_named(database)["textured"] else []
    found = found or rows(database, _SOURCES.format(table=PREPARED), known)
    return sorted(found, key=lambda row: (row["kind"], row["path"], row["sha256"]))


def names_of(found: Sequence[Row]) -> dict[str, list[str]]:
    """The paths and the digests of sources, as queries name them."""
    return {"paths": [row["path"] for row in found], "digests": [row["sha256"] for row in found]}


def also_named(database: Database) -> dict[str, bool]:
    """Which of ALSO_NAMED any sample names: what none names, the samples need not be searched for."""
    database.execute("CREATE TEMP TABLE IF NOT EXISTS also_named AS SELECT coalesce(bit_or(also_names), 0) AS bits FROM samples_extracts")
    bits = rows(database, "FROM also_named")[0]["bits"]
    return {name: bool(bits >> place & 1) for place, name in enumerate(ALSO_NAMED)}


def networks_known_by(database: Database, source: str, found: list[Row]) -> list[Row]:
    """The networks that a source trained, bases with the adapters on them, or the network that `source` itself names."""
    query = """
        WITH hit AS (SELECT DISTINCT digest FROM checkpoints
            WHERE list_has_any(sources, $digests) OR digest = $name OR (starts_with(digest, $name) AND $is_digest))
        SELECT kind, category, digest, CASE WHEN digest IN (FROM hit) THEN 'directly' ELSE 'by its base' END AS touched,
            list(DISTINCT version ORDER BY version) AS versions
        FROM checkpoints WHERE digest IN (FROM hit) OR base IN (FROM hit) GROUP BY ALL ORDER BY ALL
    """
    return rows(database, query, {**_named(source), "digests": [row["sha256"] for row in found]})


def _named(source: str) -> Row:
    """A source as parameters of a query; as an argument it may be any bytes, which no table has."""
    return {"name": source.encode("utf-8", "replace").decode(), "is_digest": bool(DIGEST.fullmatch(source))}
