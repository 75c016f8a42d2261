"""From a sample, or from a metric, up to what it was made from."""

import re
from pathlib import Path

from stage.core.errors import Refusal
from stage.lineage.contents import History
from stage.lineage.database import Answer, Database, files_of, make_views, rows
from stage.lineage.layout import todays_id
from stage.lineage.marked import found_in
from stage.lineage.metric import metric_origin, samples_behind
from stage.lineage.origin import sources_behind
from stage.lineage.withdrawn import known_recalls, recalled_behind

SAMPLE = re.compile(r".+/.+/.+/\d{6,}/\d+")
RECALLED = "recalled"  # the table of what was withdrawn


def up(database: Database, history: History, target: str) -> Answer:
    """What a sample, by its id or its PNG, or a metric, by `category/segmenter/arm/seed/metric`, was made from; what of it was recalled, first.

    The last version that has it answers; for a PNG, the last one with its pixels, if there is one. The database may be without views.
    """
    answer, recalls = _made_of(database, history, target), known_recalls()
    samples = [row["sample_id"] for row in answer.get("sample", ())]
    if recalls and "metric" in answer:
        samples = samples_behind(database, answer["metric"][0])
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
    return metric_origin(database, history, target)


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
        f"another version with --rev, or --all.{history.unread}"
    )
