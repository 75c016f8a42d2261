"""What differs between two versions, sample by sample, and why.

A sample is identified by its id. It is regenerated if its pixels differ; if only other columns differ, its metadata changed.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from stage.core.errors import Refusal
from stage.lineage.causes import INPUTS, NOTHING, changed_inputs, in_words
from stage.lineage.database import Answer, Database, Row, extracts, rows
from stage.lineage.versions import Version
from stage.synthesis.rows import Identity, PlanRow

REGENERATED = "regenerated"
SOURCES = ("background_path", "background_sha256", "source_path", "source_sha256", "mask_path", "mask_sha256")
# Other columns that planning chooses; the prompt follows from a parameter, and settings and licence change no pixel.
PLANNED = tuple(name for name in PlanRow._fields if name not in {"sample_id", *Identity._fields, *SOURCES, "settings", "prompt", "licence"})


def diff(database: Database, before: Version, after: Version) -> Answer:
    """The samples that were added, removed, regenerated, or of which only metadata changed, counted by method, category, type and cause."""
    compare(database, before, after)
    names = changed_inputs(database, _names(before, after))
    counted = rows(database, _COUNTS)
    told = [{**row, "cause": in_words(row["cause"], names.get((row["category"], row["method"]), NOTHING))} for row in counted]
    every = rows(database, "SELECT sample_id, change, cause FROM changes WHERE change <> 'unchanged' ORDER BY sample_id")
    inputs = rows(database, INPUTS, {"before": before.name, "after": after.name})
    return {"changes": told, "inputs": inputs, "sources": rows(database, _SOURCE_FILES, _names(before, after)), "every_change": every}


def why(database: Database, sample_id: str, before: Version, after: Version) -> Answer:
    """Why a sample differs between two versions: which of its columns differ, and which of its inputs."""
    compare(database, before, after, sample_id)
    found = rows(database, "FROM changes")
    if not found:
        raise Refusal(
            f"Expected a sample of {before.name} or {after.name}, found none called {sample_id} in either. "
            f"`stage lineage up {sample_id} --all` says which versions have it."
        )
    change = found[0]
    names = changed_inputs(database, _names(before, after)).get((change["category"], change["method"]), NOTHING)
    chosen = {**_names(before, after), "id": sample_id}
    sides = {
        row.pop("version"): row for row in rows(database, "FROM samples WHERE sample_id = $id AND version IN ($before, $after)", chosen)
    }
    told = {"sample_id": sample_id, "change": change["change"], "cause": in_words(change["cause"], names)}
    inputs = rows(
        database,
        f"FROM ({INPUTS}) WHERE (category, method) = ($category, $method)",
        {**_names(before, after), "category": change["category"], "method": change["method"]},
    )
    return {"sample": [told], "columns": _columns(sides, before.name, after.name), "inputs": inputs}


def compare(database: Database, before: Version, after: Version, sample_id: str = "") -> None:
    """Make the table `changes` of two versions, or of one sample in them: each sample's `change`, and its `cause`, a list."""
    parted = {name for columns in PARTS.values() for name in columns}
    known = [row["column_name"] for row in rows(database, "DESCRIBE samples")]
    rest = _hash([name for name in known if name not in {"version", "sample_id", *parted}])
    by_number = {"extracts": extracts(database)}
    database.execute(_SIDES.format(parts=_PARTS, rest=rest), {"id": sample_id, **by_number})
    database.execute(_KNOWN, by_number)
    database.execute(_PREPARED)
    database.execute(_CHANGES.format(whole=_WHOLE, causes=_CAUSES), _names(before, after))


def _hash(columns: Sequence[str]) -> str:
    """A 64-bit hash of some columns, hashed one by one, so that a text that many rows share is hashed once."""
    each = [f'hash("{name}")' for name in columns]
    return each[0] if len(each) == 1 else f"hash({', '.join(each)})"


def _names(before: Version, after: Version) -> dict[str, Any]:
    return {"before": before.name, "after": after.name}


# Only 64-bit hashes of what is compared are joined: the columns of 100,000 samples would not fit into the database's memory.
PARTS = {
    "pixels": ("image_digest", "mask_digest"),
    "sourced": SOURCES,
    "planned": PLANNED,
    **{name: (name,) for name in ("seed", "parameters", "checkpoint", "base", "code", "versions", "device", "batch_key")},
    "named": ("settings", "licence"),
}
_PARTS = ", ".join(f"{_hash(columns)} AS {name}" for name, columns in PARTS.items())
_WHOLE = " OR ".join(f"a.{name} <> b.{name}" for name in ("rest", *PARTS))
# `planned` and `rendered` stand for the names of the parameters that differ, which the manifests have.
_CAUSES = """list_filter([
    CASE WHEN a.sourced <> b.sourced OR a.prepared <> b.prepared THEN 'source' END,
    CASE WHEN a.seed <> b.seed OR (a.planned <> b.planned AND a.sourced = b.sourced) THEN 'planned' END,
    CASE WHEN a.parameters <> b.parameters THEN 'rendered' END,
    CASE WHEN a.checkpoint <> b.checkpoint THEN 'checkpoint' END,
    CASE WHEN a.base <> b.base THEN 'base' END,
    CASE WHEN a.code <> b.code THEN 'code' END,
    CASE WHEN a.versions <> b.versions THEN 'libraries' END,
    CASE WHEN a.device <> b.device THEN 'device' END,
    CASE WHEN a.named <> b.named THEN 'name or licence' END
], lambda one: one IS NOT NULL)"""
_SIDES = """
CREATE OR REPLACE TEMP TABLE sides AS SELECT list_position($extracts::VARCHAR[], extract) AS number, sample_id, defect, ordinal, attempt, verdict,
    {parts}, {rest} AS rest, hash(hash(background_path), hash(background_sha256)) AS background, hash(hash(source_path), hash(source_sha256)) AS source
FROM samples_extracts WHERE $id = '' OR sample_id = $id
"""
_PREPARED = """
CREATE OR REPLACE TEMP TABLE prepared AS SELECT DISTINCT number, hash(hash(path), hash(sha256)) AS file, hash(image_digest) AS pixels
FROM sources JOIN places USING (version, method, category) WHERE role IN ('background', 'training')
"""
_KNOWN = """
CREATE OR REPLACE TEMP TABLE known AS SELECT DISTINCT version, method, category, defect
FROM (SELECT DISTINCT list_position($extracts::VARCHAR[], extract) AS number, defect FROM samples_extracts) JOIN places USING (number)
"""
_CHANGES = """
CREATE OR REPLACE TEMP TABLE changes AS
WITH one AS (
    SELECT s.* EXCLUDE (number, background, source), version, method, category, hash(p.pixels, q.pixels) AS prepared
    FROM sides s JOIN places USING (number) LEFT JOIN prepared p ON p.number = s.number AND p.file = s.background
    LEFT JOIN prepared q ON q.number = s.number AND q.file = s.source
),
a AS (FROM one WHERE version = $before),
b AS (FROM one WHERE version = $after),
told AS (SELECT sample_id, coalesce(a.method, b.method) AS method, coalesce(a.category, b.category) AS category, coalesce(a.defect, b.defect) AS defect,
    coalesce(a.ordinal, b.ordinal) AS ordinal, coalesce(a.attempt, b.attempt) AS attempt, coalesce(b.verdict, a.verdict) AS verdict,
    CASE WHEN a.version IS NULL THEN 'added' WHEN b.version IS NULL THEN 'removed' WHEN a.pixels <> b.pixels THEN 'regenerated'
        WHEN {whole} THEN 'only metadata' ELSE 'unchanged' END AS change,
    CASE
        WHEN a.version IS NULL AND NOT EXISTS (FROM known k WHERE (k.version, k.method, k.category) = ($before, b.method, b.category)) THEN ['new data set']
        WHEN b.version IS NULL AND NOT EXISTS (FROM known k WHERE (k.version, k.method, k.category) = ($after, a.method, a.category)) THEN ['data set removed']
        WHEN a.version IS NULL AND NOT EXISTS (FROM known k WHERE (k.version, k.method, k.category, k.defect) = ($before, b.method, b.category, b.defect))
            OR b.version IS NULL AND NOT EXISTS (FROM known k WHERE (k.version, k.method, k.category, k.defect) = ($after, a.method, a.category, a.defect))
            THEN ['source']
        WHEN (a.version IS NULL OR b.version IS NULL) AND coalesce(a.attempt, b.attempt) > 0 THEN ['attempt']
        WHEN a.version IS NULL OR b.version IS NULL THEN ['count']
        WHEN {whole} THEN {causes}
        ELSE [] END AS cause,
    coalesce(a.batch_key <> b.batch_key, false) AS has_other_batch
    FROM a FULL JOIN b USING (sample_id))
SELECT * EXCLUDE (has_other_batch) REPLACE (CASE WHEN len(cause) = 0 AND has_other_batch THEN ['batch'] ELSE cause END AS cause) FROM told
"""
_COUNTS = """
SELECT method, category, defect, change, cause, count(*) AS samples FROM changes
GROUP BY ALL ORDER BY method, category, defect, change, samples DESC
"""
_SOURCE_FILES = """
WITH one AS (SELECT DISTINCT version, category, path, sha256, role FROM sources)
SELECT coalesce(a.category, b.category) AS category, coalesce(a.path, b.path) AS path, coalesce(b.role, a.role) AS role,
    CASE WHEN a.sha256 IS NULL THEN 'added' WHEN b.sha256 IS NULL THEN 'removed' WHEN a.sha256 <> b.sha256 THEN 'other bytes' ELSE 'other role' END AS change
FROM (FROM one WHERE version = $before) a FULL JOIN (FROM one WHERE version = $after) b USING (category, path)
WHERE (a.sha256, a.role) IS DISTINCT FROM (b.sha256, b.role) ORDER BY ALL
"""


def _columns(sides: Mapping[str, Row], before: str, after: str) -> list[Row]:
    """The columns in which the two sides of a sample differ."""
    first, second = sides.get(before, {}), sides.get(after, {})
    names = [name for name in (first or second) if first.get(name) != second.get(name)]
    return [{"column": name, "before": first.get(name), "after": second.get(name)} for name in names]
