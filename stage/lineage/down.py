"""From a photograph, a mask or a network, down to every sample, network and evaluation that it touched, in every version asked for."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

from stage.core.digests import file_digest
from stage.core.errors import Refusal
from stage.lineage.contents import History
from stage.lineage.database import Answer, Database, Row, rows

DIGEST = re.compile(r"[0-9a-f]{8,64}")


def down(database: Database, history: History, source: str) -> Answer:
    """Samples, networks and evaluations that a source touched. `source`: a path below the data folder, a file, or a digest or its beginning."""
    found = sources_of(database, source)
    networks = networks_of(database, source, found)
    if not found and not networks:
        unread = f" Not read: {', '.join(gap.version for gap in history.gaps)}." if history.gaps else ""
        raise Refusal(
            f"Expected a photograph, a mask or a network of {history.names}: a path below the data folder, a file, or a digest, found {source!r}, "
            f"which none of them knows.{unread} `stage lineage sql --all 'SELECT DISTINCT path, sha256 FROM sources'` lists them."
        )
    return touched_by(database, found, networks)


def touched_by(database: Database, found: list[Row], networks: list[Row]) -> Answer:
    """What sources and networks, rows of `sources_of` and `networks_of`, touched; makes the table `touched`, a row per sample and version."""
    known = {"paths": [row["path"] for row in found], "digests": [row["sha256"] for row in found]}
    database.execute(_TOUCHED, {**known, "networks": [row["digest"] for row in networks]})
    return {"source": found, "networks": networks, **told_of(database, known)}


def told_of(database: Database, known: Mapping[str, list[str]]) -> Answer:
    """The samples of the table `touched`, and the evaluations of them or of the sources with these `paths` and `digests`."""
    return {
        "samples": rows(database, _COUNTS),
        "evaluations": rows(database, _EVALUATIONS, known),
        "every_sample": rows(database, _SAMPLES),
    }


_SOURCES = """
SELECT path, sha256, kind, role, defect, "group", list(DISTINCT version ORDER BY version) AS versions FROM sources
WHERE path = $name OR sha256 IN ($sha256, $name) OR (image_digest = $name AND $is_digest) OR (starts_with(sha256, $name) AND $is_digest)
    OR (path, version) IN (SELECT (mask_path, version) FROM catalog WHERE mask_path IS NOT NULL AND status = 'accepted' AND
        (image_path = $name OR image_sha256 IN ($sha256, $name) OR (starts_with(image_sha256, $name) AND $is_digest)))
GROUP BY ALL
UNION ALL SELECT path, sha256, 'texture' AS kind, 'texture' AS role, '' AS defect, '' AS "group", list(DISTINCT version ORDER BY version) FROM (
    SELECT version, nullif(choices, '') ->> 'texture_path' AS path, nullif(choices, '') ->> 'texture_sha256' AS sha256 FROM samples
    WHERE contains(choices, '"texture_sha256"') AND (contains(choices, $quoted) OR contains(choices, $sha256) OR ($is_digest AND contains(choices, $name))))
WHERE (path = $name OR sha256 = $sha256 OR (starts_with(sha256, $name) AND $is_digest)) AND sha256 NOT IN (SELECT sha256 FROM sources)
GROUP BY ALL ORDER BY kind, path, sha256
"""


def sources_of(database: Database, source: str) -> list[Row]:
    """The source in every version that knows it, and the mask of it if it is the photograph of a defect."""
    file = Path(source)
    digest = file_digest(file) if file.is_file() else "no file"
    known = {"name": source, "sha256": digest, "is_digest": bool(DIGEST.fullmatch(source)), "quoted": json.dumps(source)}
    return rows(database, _SOURCES, known)


def networks_of(database: Database, source: str, found: list[Row]) -> list[Row]:
    """The networks that it trained, bases with the adapters on them, or the network that it is itself."""
    query = """
        WITH hit AS (SELECT DISTINCT digest FROM checkpoints
            WHERE list_has_any(sources, $digests) OR digest = $name OR (starts_with(digest, $name) AND $is_digest))
        SELECT kind, category, digest, CASE WHEN digest IN (FROM hit) THEN 'directly' ELSE 'by its base' END AS touched,
            list(DISTINCT version ORDER BY version) AS versions
        FROM checkpoints WHERE digest IN (FROM hit) OR base IN (FROM hit) GROUP BY ALL ORDER BY ALL
    """
    return rows(database, query, {"digests": [row["sha256"] for row in found], "name": source, "is_digest": bool(DIGEST.fullmatch(source))})


# Masks of different photographs may have equal bytes: a mask is known by its path and bytes together.
_TOUCHED = """
CREATE OR REPLACE TEMP TABLE touched AS
WITH hit AS (SELECT unnest($paths::VARCHAR[]) AS path, unnest($digests::VARCHAR[]) AS sha256),
told AS (
    SELECT version, sample_id, method, category, defect, verdict, list_filter([
        CASE WHEN background_sha256 IN (SELECT sha256 FROM hit) THEN 'background' END,
        CASE WHEN source_sha256 <> '' AND source_sha256 IN (SELECT sha256 FROM hit) THEN 'defect' END,
        CASE WHEN mask_sha256 <> '' AND (mask_path, mask_sha256) IN (SELECT (path, sha256) FROM hit) THEN 'mask' END,
        CASE WHEN (version, sample_id) IN (SELECT (version, sample_id) FROM mixed_masks WHERE (path, sha256) IN (SELECT (path, sha256) FROM hit))
            THEN 'part of the mask' END,
        CASE WHEN contains(choices, '"texture_sha256"') AND nullif(choices, '') ->> 'texture_sha256' IN (SELECT sha256 FROM hit) THEN 'texture' END,
        CASE WHEN checkpoint <> '' AND list_contains($networks::VARCHAR[], checkpoint) THEN 'adapters' END,
        CASE WHEN base <> '' AND list_contains($networks::VARCHAR[], base) THEN 'base' END
    ], lambda one: one IS NOT NULL) AS used_as FROM samples
)
FROM told WHERE len(used_as) > 0
"""
_COUNTS = """
SELECT method, category, defect, used_as, verdict, count(*) AS samples, versions FROM (
    SELECT sample_id, method, category, defect, used_as, verdict, list(version ORDER BY place) AS versions
    FROM touched JOIN versions USING (version) GROUP BY ALL
) GROUP BY ALL ORDER BY ALL
"""
_SAMPLES = """
SELECT sample_id, used_as, verdict, list(version ORDER BY place) AS versions FROM touched JOIN versions USING (version)
GROUP BY ALL ORDER BY sample_id, versions
"""
_EVALUATIONS = """
WITH hit AS (SELECT unnest($paths::VARCHAR[]) AS path, unnest($digests::VARCHAR[]) AS sha256),
data AS (SELECT DISTINCT d.version, d.category, d.digest FROM touched JOIN datasets d USING (version, category, method) WHERE verdict = 'accepted'),
own AS (
    SELECT version, category, split, defect = 'good' AS is_good FROM catalog
    WHERE status = 'accepted' AND (image_sha256 IN (SELECT sha256 FROM hit) OR (mask_path, mask_sha256) IN (SELECT (path, sha256) FROM hit))
),
told AS (
    SELECT DISTINCT version, category, segmenter, arm, real_per_type, seed, list_filter([
        CASE WHEN EXISTS (FROM data WHERE (data.version, data.category) = (scores.version, scores.category)
            AND list_contains(string_split(samples, '+'), data.digest)) THEN 'its samples' END,
        CASE WHEN EXISTS (FROM own WHERE (own.version, own.category, own.split) = (scores.version, scores.category, 'train')
            AND (is_good OR NOT starts_with(arm, 'only_'))) THEN 'trained on it' END,
        CASE WHEN EXISTS (FROM own WHERE (own.version, own.category, own.split) = (scores.version, scores.category, 'test')) THEN 'tested on it' END
    ], lambda one: one IS NOT NULL) AS touched_by FROM scores
)
SELECT category, segmenter, arm, real_per_type, touched_by, count(DISTINCT seed) AS seeds, list(DISTINCT version ORDER BY version) AS versions
FROM told WHERE len(touched_by) > 0 GROUP BY ALL ORDER BY ALL
"""
