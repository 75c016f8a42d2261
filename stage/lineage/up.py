"""From a sample, or from a metric, up to what it was made from."""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from stage.core.errors import Refusal
from stage.core.wording import counted
from stage.lineage.contents import History
from stage.lineage.database import Answer, Database, Row, files_of, make_views, rows
from stage.lineage.layout import todays_id
from stage.lineage.marked import found_in
from stage.lineage.origin import sources_behind
from stage.lineage.withdrawn import known_recalls, recalled_behind

SAMPLE = re.compile(r".+/.+/.+/\d{6,}/\d+")
ALL_TYPES = "(all)"  # as in the scores
RECALLED = "recalled"  # the table of what was withdrawn
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


def up(database: Database, history: History, target: str) -> Answer:
    """What a sample, by its id or its PNG, or a metric, by `category/segmenter/arm/seed/metric`, was made from; what of it was recalled, first.

    The last version that has it answers; for a PNG, the last one with its pixels, if there is one. The database may be without views.
    """
    answer, recalls = _made_of(database, history, target), known_recalls()
    samples = [row["sample_id"] for row in answer.get("sample", ())]
    if recalls and "metric" in answer:
        samples = [row["sample_id"] for row in rows(database, _SAMPLES, _chosen(answer["metric"][0]))]
    found = recalled_behind(answer, recalls, samples, _known(database, history, answer)) if recalls else []
    return {**({RECALLED: found} if found else {}), **answer}


def _known(database: Database, history: History, answer: Answer) -> set[tuple[str, str]]:
    """The photographs and masks that the methods behind an answer had in the version that gave it, by path and SHA-256."""
    if "metric" in answer:
        version, methods = answer["metric"][0]["version"], [row["method"] for row in answer["samples"]]
    else:
        version, methods = answer["sample"][0]["versions"][0], [answer["sample"][0]["sample_id"].split("/")[0]]
    contents = [one for one in history.contents if one.version.name == version]
    some = [{"method": method} for method in methods] or [{}]  # real defects alone are behind a metric without samples
    files = sorted({file for whose in some for file in files_of("sources", contents, **whose)})
    return {(row["path"], row["sha256"]) for row in rows(database, "SELECT path, sha256 FROM read_parquet($files)", {"files": files})}


def _made_of(database: Database, history: History, target: str) -> Answer:
    is_file = Path(target).is_file()
    target = target if is_file else todays_id(target)
    is_sample = bool(SAMPLE.fullmatch(target))
    if is_sample and not is_file and (answer := sources_behind(database, history, target)):
        return answer
    make_views(database, history.contents)
    if is_file:
        sample_id, told = found_in(database, history, Path(target))
        return {"file": [told], **sources_behind(database, history, sample_id, told["in_versions"])}
    if is_sample:
        raise unknown_sample(database, history, target)
    return _metric(database, history, target)


class MetricName(NamedTuple):
    """The name of an evaluation's result; `few` real defects per type, 0 for the whole third."""

    category: str
    segmenter: str
    arm: str
    few: int
    seed: int
    metric: str


def unknown_sample(database: Database, history: History, sample_id: str) -> Refusal:
    """The error if no version has a sample."""
    like = sample_id.rpartition("/")[0].rpartition("/")[0]
    near = rows(
        database,
        "SELECT min(sample_id) AS first, max(sample_id) AS last FROM samples WHERE starts_with(sample_id, $like)",
        {"like": f"{like}/"},
    )
    known = near[0] if near[0]["first"] else rows(database, "SELECT min(sample_id) AS first, max(sample_id) AS last FROM samples")[0]
    return Refusal(
        f"Expected a sample of {history.names}, as {known['first']} to {known['last']}, found none called {sample_id}. Name another one, "
        f"another version with --rev, or --all.{_unread(history)}"
    )


def _metric(database: Database, history: History, name: str) -> Answer:
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


def _evaluated(database: Database, history: History, name: str, scores: Sequence[Row]) -> tuple[Row, list[Row]]:
    """The first of the scores of which the version has all samples, and these: a version may keep the scores of an earlier one's samples."""
    for score in scores:
        data = rows(database, _DATA, _chosen(score))
        if {row["digest"] for row in data} >= {*score["samples"].split("+")} - {""}:
            return score, data
    raise Refusal(
        f"Expected the samples {scores[0]['samples']} of {name} in version {' or '.join(score['version'] for score in scores)}, found others. "
        f"Run `dvc repro segment`, or name the version that has them with --rev, or --all.{_unread(history)}"
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
    return Refusal(f"Expected a metric of {history.names}, {NOTATION}, found no {name}. There is {told}.{_unread(history)} {COMBINED}")


def _unread(history: History) -> str:
    names = [gap.version for gap in history.gaps]
    return f" {counted(len(names), 'version')} could not be read: {'; '.join(names)}." if names else ""
