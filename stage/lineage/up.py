"""From a sample, or from a metric, up to what it was made from."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from stage.core.errors import Refusal
from stage.core.wording import counted
from stage.lineage.contents import History
from stage.lineage.database import OURS, Answer, Database, Row, rows
from stage.lineage.made_from import made_from
from stage.lineage.marked import found_in
from stage.model.base_pointer import told_origin

SAMPLE = re.compile(r".+/.+/.+/\d{6,}/\d+")
ALL_TYPES = "(all)"  # as in the scores
NOTATION = "`<category>/<segmenter>/<arm>/<seed>/<metric>`, as fabric/efficientnet_lite0/real_and_stage/0/ap"


def up(database: Database, history: History, target: str) -> Answer:
    """What a sample, by its id or its PNG, or a metric, by `category/segmenter/arm/seed/metric`, was made from.

    The last version that has it answers; for a PNG, the last one with its pixels, if there is one.
    """
    if Path(target).is_file():
        sample_id, told = found_in(database, history, Path(target))
        return {"file": [told], **_sample(database, history, sample_id, told["in_versions"])}
    return _sample(database, history, target) if SAMPLE.fullmatch(target) else _metric(database, history, target)


class MetricName(NamedTuple):
    """The name of an evaluation's result; `few` real defects per type, 0 for the whole third."""

    category: str
    segmenter: str
    arm: str
    few: int
    seed: int
    metric: str


def _sample(database: Database, history: History, sample_id: str, preferred: Sequence[str] = ()) -> Answer:
    found = rows(database, _VERSIONS_WITH, {"id": sample_id, "preferred": list(preferred)})
    if not found:
        raise unknown_sample(database, history, sample_id)
    last = found[0]
    sample = {"version": last["version"], **rows(database, _SAMPLE, {"extract": last["extract"], "id": sample_id})[0]}
    same = [
        row["version"] for row in found if row["image_digest"] == sample["image_digest"] and row["mask_digest"] == sample["mask_digest"]
    ]
    other = [row["version"] for row in found if row["version"] not in same]
    told = {name: sample[name] for name in ("sample_id", "verdict", "reason", "contrast", "seed", "attempt", "image_digest", "licence")}
    whose = {"version": sample["version"], "category": sample["category"], "method": sample["method"]}
    networks = {"names": [sample["checkpoint"], sample["base"]], **whose}
    return {
        "sample": [{**told, "versions": same, "versions_with_other_pixels": other}],
        "made_from": _made_from(database, sample, whose),
        "networks": [{**row, "origin": told_origin(json.loads(row["origin"]))} for row in rows(database, _NETWORKS, networks)],
        "trained_on": rows(database, _TRAINED_ON, networks),
        "parameters": rows(
            database,
            "SELECT name, value FROM inputs WHERE (version, category, method) = ($version, $category, $method) AND is_rendering AND contains(name, '.') ORDER BY name",
            whose,
        ),
        "code": [
            {name: sample[name] for name in ("code", "parameters", "timesteps", "device", "settings")} | {"libraries": sample["versions"]}
        ],
        "run": rows(
            database,
            "SELECT * EXCLUDE (version, category, method) FROM runs WHERE version = $version AND batch_key = $key",
            {"version": sample["version"], "key": sample["batch_key"]},
        ),
    }


# The versions that have the sample, and its pixels there; other columns are read only from the version that answers.
_VERSIONS_WITH = """
SELECT p.version, s.extract, s.image_digest, s.mask_digest
FROM (SELECT extract, image_digest, mask_digest FROM samples_extracts WHERE sample_id = $id) s JOIN places p USING (extract)
ORDER BY list_contains($preferred::VARCHAR[], p.version) DESC, p.place DESC
"""
_SAMPLE = f"SELECT * EXCLUDE ({OURS}) FROM samples_extracts WHERE extract = $extract AND sample_id = $id"
_NETWORKS = """
SELECT kind, digest, base AS on_base, facts AS origin, len(sources) AS training_files FROM checkpoints
WHERE version = $version AND of_category = $category AND of_method = $method AND list_contains($names, digest) ORDER BY kind
"""
_TRAINED_ON = """
SELECT c.kind AS network, s.path, s.kind, s.defect, s.sha256
FROM (SELECT kind, unnest(sources) AS sha256 FROM checkpoints
    WHERE version = $version AND of_category = $category AND of_method = $method AND list_contains($names, digest)) c
LEFT JOIN (SELECT DISTINCT path, kind, defect, sha256 FROM sources WHERE version = $version) s USING (sha256)
ORDER BY ALL
"""


def _made_from(database: Database, sample: Row, whose: Row) -> list[Row]:
    """A row per file that the sample was made from, with its split and group in the version's sources."""
    known = rows(database, "SELECT * FROM sources WHERE (version, category, method) = ($version, $category, $method)", whose)
    found: list[Row] = []
    for one in made_from(sample):
        is_texture, is_file = one.role == "texture", bool(one.sha256)
        same = (row for row in known if row["sha256"] == one.sha256 and (is_texture or row["path"] == one.path))
        source = next(same, {}) if is_file else {}
        told = {part: source.get(part, "not among its sources" if is_file and not is_texture else "") for part in ("split", "group")}
        found.append({"role": one.role, "path": one.path, **told, "sha256": one.sha256})
    return found


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
        raise _unknown_metric(database, history, name)
    score = found[0]
    told = {key: score[key] for key in ("version", "category", "segmenter", "arm", "real_per_type", "seed", "metric", "value", "samples")}
    chosen = {"version": score["version"], "category": score["category"], "digest": score["samples"]}
    data = rows(
        database,
        "SELECT * EXCLUDE (published) FROM datasets WHERE list_contains(string_split($digest, '+'), digest) AND category = $category AND version = $version",
        chosen,
    )
    if score["samples"] and not data:
        raise Refusal(
            f"Expected the samples {score['samples']} of {name} among those of version {score['version']}, found others. Run `dvc repro segment`."
        )
    photographs = rows(database, _PHOTOGRAPHS, {**chosen, "is_real": not score["arm"].startswith("only_")})
    files = Counter(row["role"] for row in photographs)
    by_role = [{"role": role, "files": count} for role, count in files.items()]
    return {
        "metric": [told],
        "samples": data,
        "networks": rows(database, _BEHIND, chosen),
        "photographs": by_role,
        "every_photograph": photographs,
    }


_BEHIND = """
SELECT DISTINCT c.kind, c.digest, len(c.sources) AS training_files FROM checkpoints c
JOIN datasets d ON d.version = c.version AND d.category = c.of_category AND d.method = c.of_method
WHERE d.version = $version AND d.category = $category AND list_contains(string_split($digest, '+'), d.digest) ORDER BY ALL
"""
_PHOTOGRAPHS = f"""
WITH data AS (FROM datasets WHERE version = $version AND category = $category AND list_contains(string_split($digest, '+'), digest)),
made AS (SELECT s.* FROM samples s JOIN data USING (version, category, method) WHERE verdict = 'accepted'),
networks AS ({_BEHIND.replace("c.kind, c.digest, len(c.sources) AS training_files", "c.kind, c.sources").replace("ORDER BY ALL", "")}),
known AS (SELECT DISTINCT path, sha256 FROM sources WHERE version = $version),
used AS (
    SELECT 'background' AS role, background_path AS path, background_sha256 AS sha256, count(*) AS samples FROM made GROUP BY ALL
    UNION ALL SELECT 'defect', source_path, source_sha256, count(*) FROM made WHERE source_sha256 <> '' GROUP BY ALL
    UNION ALL SELECT 'mask', mask_path, mask_sha256, count(*) FROM made WHERE mask_sha256 <> '' GROUP BY ALL
    UNION ALL SELECT 'part of the mask', m.path, m.sha256, count(*) FROM mixed_masks m JOIN made USING (version, sample_id) GROUP BY ALL
    UNION ALL SELECT 'missed defect', m.path, m.sha256, count(*) FROM missed_defects m JOIN made USING (version, sample_id) GROUP BY ALL
    UNION ALL SELECT 'trained the ' || n.kind, known.path, n.sha256, NULL
        FROM (SELECT kind, unnest(sources) AS sha256 FROM networks) n LEFT JOIN known USING (sha256)
    UNION ALL SELECT CASE WHEN split = 'test' THEN 'tested on' ELSE 'trained the segmenter' END, image_path, image_sha256, NULL FROM catalog
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
            f"three real defects per type; found {name!r}."
        )
    return MetricName(parts[0], parts[1], arm, int(few or 0), int(parts[3]), parts[4])


def _unknown_metric(database: Database, history: History, name: str) -> Refusal:
    known: dict[str, Sequence[str]] = {}
    for part in ("category", "segmenter", "arm", "metric"):
        known[part] = [row[part] for row in rows(database, f"SELECT DISTINCT {part} FROM scores ORDER BY ALL")]
    told = "; ".join(f"{part}: {', '.join(values)}" for part, values in known.items()) if known["arm"] else "no evaluation at all"
    return Refusal(f"Expected a metric of {history.names}, {NOTATION}, found no {name}. There is {told}.{_unread(history)}")


def _unread(history: History) -> str:
    names = [gap.version for gap in history.gaps]
    return f" {counted(len(names), 'version')} could not be read: {'; '.join(names)}." if names else ""
