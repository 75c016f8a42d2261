"""From a photograph, a mask or a network down to every sample, network and evaluation that it touched, in every version asked for."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from stage.core.digests import file_digest
from stage.core.errors import Refusal
from stage.lineage.contents import History
from stage.lineage.database import Answer, Database, Row, extracts, rows
from stage.lineage.extracts import ALSO_NAMED

DIGEST = re.compile(r"[0-9a-f]{8,64}")
PARAMETER = re.compile(r"\$[a-z]\w*")  # of a query; a `$` before a dot begins a path in JSON
USES = (
    "background",
    "defect",
    "mask",
    "part of the mask",
    "texture",
    "adapters",
    "base",
    "itself",
    "missed defect",
    "place or likeness",
)  # the bits of `used_as` in the table `touched`
AS_NUMBERS = 64  # extracts: a sample's are bits of a whole number, which is a fifth quicker than a string of bits, as more need
NETWORKS = 0b1100000  # the bits of adapters and base


def down(database: Database, history: History, source: str, *, whole: bool = True) -> Answer:
    """Samples, networks and evaluations that a source touched. `source`: a path below the data folder, a file, or a digest or its beginning.

    Unless `whole`, `every_sample` has as many rows as there are samples, but empty ones.
    """
    found, networks = known_by(database, history, source)
    return touched_by(database, found, networks, whole=whole)


def known_by(database: Database, history: History, source: str) -> tuple[list[Row], list[Row]]:
    """The sources of that name and the networks that they trained, or the network of that name; raises Refusal if there is none."""
    if not source.strip():
        raise Refusal(
            "Expected a path below the data folder, a file, or a digest, found an empty text, as of a variable that is not set. Name one."
        )
    found = sources_of(database, source)
    networks = networks_known_by(database, source, found)
    if not found and not networks:
        raise Refusal(
            f"Expected a photograph, a mask or a network of {history.names}: a path below the data folder, a file, or a digest, found {source!r}, "
            f"which none of them knows.{history.unread} `stage lineage sql --all 'SELECT DISTINCT path, sha256 FROM sources'` lists them."
        )
    return found, networks


def touched_by(database: Database, found: list[Row], networks: list[Row], *, whole: bool = True) -> Answer:
    """What sources and networks, rows of `sources_of` and `networks_known_by`, touched; makes the tables of `touch`."""
    used_as, chosen = uses_of(database, found, networks)
    return {"source": found, "networks": networks, **touch(database, used_as, chosen, _names(found), whole=whole)}


def uses_of(database: Database, found: Sequence[Row], networks: Sequence[Row], suffix: str = "") -> tuple[str, Row]:
    """The expression of what a sample uses of these sources and networks, with a bit for each of USES, and its parameters.

    Names of parameters and temporary tables end in `suffix`, so that one query may have several such expressions.
    """
    known, has = _names(found), _also_named(database)
    is_mixed, is_placed = (_is_named_in(database, table, known, suffix) if has[table] else "false" for table in ("mixed", "placing"))
    is_texture = _IS_TEXTURE if has["textured"] else "false"
    # Masks of different photographs may have equal bytes: a mask is identified by path and bytes together.
    pairs = {f"{name}_{number}": row[key] for number, row in enumerate(found) for name, key in (("path", "path"), ("digest", "sha256"))}
    is_mask = " OR ".join(f"(mask_sha256 = $digest_{number} AND mask_path = $path_{number})" for number in range(len(found))) or "false"
    is_missed = _is_missed(len(found)) if has["missed"] else "false"
    chosen = {"digests": known["digests"], "networks": [row["digest"] for row in networks], **pairs}
    used_as = _USED.format(is_mask=is_mask, is_mixed=is_mixed, is_texture=is_texture, is_missed=is_missed, is_placed=is_placed)
    return PARAMETER.sub(rf"\g<0>{suffix}", used_as), {f"{name}{suffix}": value for name, value in chosen.items()}


def _names(found: Sequence[Row]) -> dict[str, list[str]]:
    return {"paths": [row["path"] for row in found], "digests": [row["sha256"] for row in found]}


def touch(database: Database, used_as: str, chosen: Mapping[str, Any], known: Mapping[str, list[str]], *, whole: bool) -> Answer:
    """All samples for which the expression `used_as`, with the parameters `chosen`, is not 0, and the evaluations touched.

    Those are evaluations of these samples, or of the sources with the `known` paths and digests. Makes `touched`, a row per kind of
    sample with their number, and the view `touched_in`, the same with a row per version. Extracts are compared by their numbers in
    `places`, which takes a fraction of the time and memory of texts.
    """
    last = rows(database, "SELECT max(place) AS last FROM versions")[0]["last"]
    by_number = {**chosen, "extracts": extracts(database)}
    count = len(by_number["extracts"])
    numbers = "bit_or(1::UBIGINT << (64 - number)::UBIGINT)::BIT" if count <= AS_NUMBERS else f"bitstring_agg(number, 1, {count})"
    one = _ONE.format(used_as=used_as, sample_id="any_value(sample_id)" if whole else "''", numbers=numbers)
    if whole:
        database.execute(f"CREATE OR REPLACE TEMP TABLE one AS {one}", by_number)
    database.execute(_TOUCHED.format(one="FROM one" if whole else one, last=last), {} if whole else by_number)
    database.execute(_TOUCHED_IN)
    names = [row["version"] for row in rows(database, "SELECT version FROM versions ORDER BY place")]
    counts = list(_in_words(rows(database, _COUNTS), names))
    every = list(_in_words(rows(database, _SAMPLES), names)) if whole else [{}] * sum(row["samples"] for row in counts)
    return {
        "samples": sorted(counts, key=lambda row: [*row.values()]),
        "evaluations": rows(database, _EVALUATIONS, known),
        "every_sample": every,
    }


def _in_words(found: list[Row], names: list[str]) -> Iterator[Row]:
    """Rows with names in place of the bits of uses and versions; equal bits share a list, since there may be a million rows."""
    uses = {bits: [name for number, name in enumerate(USES) if bits >> number & 1] for bits in {row["used_as"] for row in found}}
    versions = {bits: [names[place] for place, bit in enumerate(bits) if bit == "1"] for bits in {row["versions"] for row in found}}
    return ({**row, "used_as": uses[row["used_as"]], "versions": versions[row["versions"]]} for row in found)


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
    found += rows(database, _TEXTURES, known) if _also_named(database)["textured"] else []
    found = found or rows(database, _SOURCES.format(table=PREPARED), known)
    return sorted(found, key=lambda row: (row["kind"], row["path"], row["sha256"]))


def _also_named(database: Database) -> dict[str, bool]:
    """Which of ALSO_NAMED any sample names: what none names, the samples need not be searched for."""
    database.execute("CREATE TEMP TABLE IF NOT EXISTS also_named AS SELECT coalesce(bit_or(also_names), 0) AS bits FROM samples_extracts")
    bits = rows(database, "FROM also_named")[0]["bits"]
    return {name: bool(bits >> place & 1) for place, name in enumerate(ALSO_NAMED)}


def _is_named_in(database: Database, table: str, known: Mapping[str, list[str]], suffix: str) -> str:
    """The condition that one of the masks with the `known` paths and digests is among a sample's `mixed` masks, or its `placing` ones."""
    database.execute(_NAMED_IN.format(table=table, suffix=suffix), known)
    return f"(extract, sample_id) IN (FROM named_{table}{suffix})"


def _is_missed(count: int) -> str:
    """The condition that a sample is planned for a missed defect whose photograph or mask is among `count` sources."""
    told = "nullif(choices, '') ->> '$.missed.{}'"
    is_file = (
        f"(({told.format(f'{kind}_sha256')}) = $digest_{number} AND ({told.format(f'{kind}_path')}) = $path_{number})"
        for number in range(count)
        for kind in ("image", "mask")
    )
    return f"""contains(choices, '"missed"') AND ({" OR ".join(is_file) or "false"})"""


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


# Samples are distinguished by 63-bit hashes; the extracts and the versions that have one are bits.
_ONE = """
SELECT {sample_id} AS sample_id, any_value(defect) AS defect, used_as, verdict, {numbers} AS numbers FROM (
    SELECT list_position($extracts::VARCHAR[], extract) AS number, ({used_as})::USMALLINT AS used_as, * FROM samples_extracts)
GROUP BY sample_hash, used_as, verdict HAVING any_value(used_as) > 0
"""
_TOUCHED = """
CREATE OR REPLACE TEMP TABLE touched AS
WITH counted AS (SELECT defect, used_as, verdict, numbers, count(*) AS samples FROM ({one}) GROUP BY ALL),
placed AS (
    SELECT numbers, any_value(method) AS method, any_value(category) AS category, bitstring_agg(place, 0, {last}) AS versions
    FROM (SELECT DISTINCT numbers FROM counted) JOIN places ON get_bit(numbers, number::INTEGER - 1) = 1 GROUP BY numbers
)
SELECT * FROM counted JOIN placed USING (numbers)
"""
_TOUCHED_IN = """
CREATE OR REPLACE TEMP VIEW touched_in AS SELECT version, method, category, defect, used_as, verdict, samples
FROM touched t JOIN versions v ON get_bit(t.versions, v.place::INTEGER) = 1
"""
# Each use has its bit, as in USES. No join and no subquery: those would run for every sample of every version.
_USED = """
CASE WHEN list_contains($digests::VARCHAR[], background_sha256) THEN 1 ELSE 0 END
+ CASE WHEN source_sha256 <> '' AND list_contains($digests::VARCHAR[], source_sha256) THEN 2 ELSE 0 END
+ CASE WHEN mask_sha256 <> '' AND ({is_mask}) THEN 4 ELSE 0 END
+ CASE WHEN {is_mixed} THEN 8 ELSE 0 END
+ CASE WHEN {is_texture} THEN 16 ELSE 0 END
+ CASE WHEN checkpoint <> '' AND list_contains($networks::VARCHAR[], checkpoint) THEN 32 ELSE 0 END
+ CASE WHEN base <> '' AND list_contains($networks::VARCHAR[], base) THEN 64 ELSE 0 END
+ CASE WHEN {is_missed} THEN 256 ELSE 0 END
+ CASE WHEN {is_placed} THEN 512 ELSE 0 END
"""
_IS_TEXTURE = """contains(choices, '"texture_sha256"') AND list_contains($digests::VARCHAR[], nullif(choices, '') ->> 'texture_sha256')"""
_NAMED_IN = """
CREATE OR REPLACE TEMP TABLE named_{table}{suffix} AS SELECT DISTINCT t.extract, m.sample_id FROM {table}_masks m JOIN tables t
    ON t.kind = 'samples' AND t.version = m.version AND t.category = m.category AND t.method = m.method
WHERE (m.path, m.sha256) IN (SELECT (unnest($paths::VARCHAR[]), unnest($digests::VARCHAR[])))
"""
_COUNTS = "SELECT method, category, defect, used_as, verdict, samples, versions::VARCHAR AS versions FROM touched"
_SAMPLES = """
SELECT sample_id, used_as, verdict, versions::VARCHAR AS versions FROM one JOIN (SELECT DISTINCT numbers, versions FROM touched) USING (numbers)
ORDER BY sample_id, versions DESC
"""
_EVALUATIONS = """
WITH hit AS (SELECT unnest($paths::VARCHAR[]) AS path, unnest($digests::VARCHAR[]) AS sha256),
data AS (SELECT DISTINCT d.category, d.digest FROM touched_in t JOIN datasets d USING (version, category, method) WHERE t.verdict = 'accepted'),
own AS (
    SELECT version, category, split, defect = 'good' AS is_good FROM catalog
    WHERE status = 'accepted' AND (image_sha256 IN (SELECT sha256 FROM hit) OR (mask_path, mask_sha256) IN (SELECT (path, sha256) FROM hit))
),
told AS (
    SELECT DISTINCT version, category, segmenter, arm, real_per_type, seed, list_filter([
        CASE WHEN EXISTS (FROM data WHERE data.category = scores.category -- a version may keep the scores of an earlier one's samples
            AND list_contains(string_split(samples, '+'), data.digest)) THEN 'its samples' END,
        CASE WHEN EXISTS (FROM own WHERE (own.version, own.category, own.split) = (scores.version, scores.category, 'train')
            AND (is_good OR real_per_type = 0 AND NOT starts_with(arm, 'only_'))) THEN 'trained on it'
        WHEN EXISTS (FROM own WHERE (own.version, own.category, own.split) = (scores.version, scores.category, 'train')
            AND real_per_type > 0) THEN 'perhaps trained on it' END,
        CASE WHEN EXISTS (FROM own WHERE (own.version, own.category, own.split) = (scores.version, scores.category, 'test')) THEN 'tested on it' END
    ], lambda one: one IS NOT NULL) AS touched_by FROM scores
)
SELECT category, segmenter, arm, real_per_type, touched_by, count(DISTINCT seed) AS seeds, list(DISTINCT version ORDER BY version) AS versions
FROM told WHERE len(touched_by) > 0 GROUP BY ALL ORDER BY ALL
"""
