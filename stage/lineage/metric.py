"""From a metric up to the samples, networks and photographs behind it."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from stage.core.errors import Refusal
from stage.lineage.contents import History
from stage.lineage.database import Answer, Database, Row, rows

ALL_TYPES = "(all)"  # as in the scores
FEW = (
    "This arm was trained with a few real defects per type, and with no samples but those made from them. No published table says which: "
    "candidates, samples and networks are all that it drew from. Normal and tested images are its own."
)
AVERAGE = "(average)"  # a category, as in the results
COMBINED = (
    "An average over categories or seeds, a difference between arms, and a figure of fidelity are computed from others and name no samples: "
    "ask for the metric of each category, arm and seed, and for fidelity for a sample of the method."
)
NOTATION = "`<category>/<segmenter>/<arm>/<seed>/<metric>`, as fabric/efficientnet_lite0/real_and_stage/0/ap"


class MetricName(NamedTuple):
    """The name of an evaluation's result; `few` real defects per type, 0 for the whole third."""

    category: str
    segmenter: str
    arm: str
    few: int
    seed: int
    metric: str


def metric_origin(database: Database, history: History, name: str) -> Answer:
    """What a metric was computed with: its samples, their networks, and every photograph. Raises Refusal for one that is not there."""
    metric = _parsed(name)
    query = """
        SELECT s.*, v.place FROM scores s JOIN versions v USING (version) WHERE defect = $all AND s.category = $category
        AND segmenter = $segmenter AND arm = $arm AND real_per_type = $few AND seed = $seed AND metric = $metric ORDER BY v.place DESC
    """
    found = rows(database, query, {"all": ALL_TYPES, **metric._asdict()})
    if not found:
        raise _average(database, name) if metric.category == AVERAGE else _unknown_metric(database, history, name)
    score, data = _evaluated(database, history, name, found)
    told = {key: score[key] for key in ("version", "category", "segmenter", "arm", "real_per_type", "seed", "metric", "value", "samples")}
    chosen = _chosen(score)
    photographs = rows(database, _PHOTOGRAPHS, {**chosen, "is_real": not score["arm"].startswith("only_"), "few": metric.few})
    files = Counter(row["role"] for row in photographs)
    by_role = [{"role": role, "files": count} for role, count in files.items()]
    return {
        **({"note": [{"note": FEW}]} if metric.few else {}),
        "metric": [told],
        "samples": data,
        "networks": rows(database, _BEHIND, chosen),
        "photographs": by_role,
        "every_photograph": photographs,
    }


def samples_behind(database: Database, score: Row) -> list[str]:
    """The ids of the samples that the segmenter of a score was trained with."""
    return [row["sample_id"] for row in rows(database, _SAMPLES, _chosen(score))]


def _evaluated(database: Database, history: History, name: str, scores: Sequence[Row]) -> tuple[Row, list[Row]]:
    """The first of the scores of which the version has all samples, and these: a version may keep the scores of an earlier one's samples."""
    for score in scores:
        data = rows(database, _DATA, _chosen(score))
        if {row["digest"] for row in data} >= {*score["samples"].split("+")} - {""}:
            return score, data
    raise Refusal(
        f"Expected the samples {scores[0]['samples']} of {name} in version {' or '.join(score['version'] for score in scores)}, found others. "
        f"Run `dvc repro segment`, or name the version that has them with --rev, or --all.{history.unread}"
    )


def _chosen(score: Row) -> Row:
    """Which samples are behind a score, as parameters of queries."""
    return {"version": score["version"], "category": score["category"], "digest": score["samples"]}


_DATA = """
SELECT * EXCLUDE (published) FROM datasets WHERE list_contains(string_split($digest, '+'), digest) AND category = $category AND version = $version
"""
_BEHIND = """
SELECT DISTINCT c.kind, c.digest, len(c.sources) AS training_files FROM checkpoints c
JOIN datasets d ON d.version = c.version AND d.category = c.of_category AND d.method = c.of_method
WHERE d.version = $version AND d.category = $category AND list_contains(string_split($digest, '+'), d.digest) ORDER BY ALL
"""
_MADE = """
WITH data AS (FROM datasets WHERE version = $version AND category = $category AND list_contains(string_split($digest, '+'), digest)),
made AS (SELECT s.* FROM samples s JOIN data USING (version, category, method) WHERE verdict = 'accepted')
"""
_SAMPLES = f"{_MADE} SELECT sample_id FROM made"
_PHOTOGRAPHS = f"""
{_MADE},
networks AS ({_BEHIND.replace("c.kind, c.digest, len(c.sources) AS training_files", "c.kind, c.sources").replace("ORDER BY ALL", "")}),
known AS (SELECT DISTINCT path, sha256 FROM sources WHERE version = $version),
used AS (
    SELECT 'background' AS role, background_path AS path, background_sha256 AS sha256, count(*) AS samples FROM made GROUP BY ALL
    UNION ALL SELECT 'defect', source_path, source_sha256, count(*) FROM made WHERE source_sha256 <> '' GROUP BY ALL
    UNION ALL SELECT 'mask', mask_path, mask_sha256, count(*) FROM made WHERE mask_sha256 <> '' GROUP BY ALL
    UNION ALL SELECT 'part of the mask', m.path, m.sha256, count(*) FROM mixed_masks m JOIN made USING (version, sample_id) GROUP BY ALL
    UNION ALL SELECT 'place or likeness', m.path, m.sha256, count(*) FROM placing_masks m JOIN made USING (version, sample_id) GROUP BY ALL
    UNION ALL SELECT 'missed defect', m.path, m.sha256, count(*) FROM missed_defects m JOIN made USING (version, sample_id) GROUP BY ALL
    UNION ALL SELECT 'texture', t.path, t.sha256, count(*) FROM textures t JOIN made USING (version, sample_id) GROUP BY ALL
    UNION ALL SELECT 'trained the ' || n.kind, known.path, n.sha256, NULL
        FROM (SELECT kind, unnest(sources) AS sha256 FROM networks) n LEFT JOIN known USING (sha256)
    UNION ALL SELECT CASE WHEN split = 'test' THEN 'tested on' WHEN defect = 'good' OR $few = 0 THEN 'trained the segmenter'
        ELSE 'candidate to train the segmenter' END, image_path, image_sha256, NULL FROM catalog
        WHERE version = $version AND category = $category AND status = 'accepted' AND (split = 'test' OR defect = 'good' OR $is_real)
)
SELECT * FROM used ORDER BY role, samples DESC, path
"""


def _parsed(name: str) -> MetricName:
    parts = name.split("/")
    arm, _, few = parts[2].partition(":") if len(parts) == 5 else ("", "", "")
    if len(parts) != 5 or not parts[3].isdecimal() or not (few or "0").isdecimal():
        raise Refusal(
            f"Expected a sample's id, `<method>/<category>/<defect>/<ordinal>/<attempt>`, or a metric, {NOTATION}; `<arm>:3` is the arm with "
            f"three real defects per type; found {name!r}. {COMBINED}"
        )
    return MetricName(parts[0], parts[1], arm, int(few or 0), int(parts[3]), parts[4])


def _average(database: Database, name: str) -> Refusal:
    own = [row["category"] + name.removeprefix(AVERAGE) for row in rows(database, "SELECT DISTINCT category FROM scores ORDER BY ALL")]
    return Refusal(
        f"Expected a metric of one category, found {name}. {COMBINED} Here these are: {', '.join(own) or 'none, without an evaluation'}."
    )


def _unknown_metric(database: Database, history: History, name: str) -> Refusal:
    known: dict[str, Sequence[str]] = {}
    for part in ("category", "segmenter", "arm", "metric"):
        known[part] = [row[part] for row in rows(database, f"SELECT DISTINCT {part} FROM scores ORDER BY ALL")]
    told = "; ".join(f"{part}: {', '.join(values)}" for part, values in known.items()) if known["arm"] else "no evaluation at all"
    return Refusal(f"Expected a metric of {history.names}, {NOTATION}, found no {name}. There is {told}.{history.unread} {COMBINED}")
