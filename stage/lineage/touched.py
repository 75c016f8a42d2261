"""The samples that use a source or a network, in every version asked for, and the evaluations that it touched."""

from collections.abc import Iterator, Mapping
from typing import Any

from stage.lineage.database import Answer, Database, Row, extracts, rows

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
