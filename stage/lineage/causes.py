"""Causes of a change in words: a sample's columns give the kind of cause, and the manifests name the parameters."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from stage.lineage.database import Database, rows

# Digests among a manifest's inputs: a sample has a column for each that decides it, but not for those in PLANNERS.
DIGESTS = ("base", "catalog", "checkpoint", "code", "device", "planner", "rejected", "synthesis", "versions")
VERDICT = "the verdict"  # follows from code, parameters and the training part, so it is a cause only where none of those is
PLANNERS = {
    "catalog": "source",
    "planner": "code",
    "missed": "missed defects",
    "textures": "textures",
    "withdrawn": "recall",
    "judge": VERDICT,
}
NO_ROW = (
    "synthesize.count",
    "synthesize.missed_share",
    "synthesize.attempts",
    "synthesize.shard_rows",
    "name",
)  # decide the number of rows, or their names
INPUTS = """
SELECT coalesce(a.category, b.category) AS category, coalesce(a.method, b.method) AS method, coalesce(a.name, b.name) AS name,
    a.value AS before, b.value AS after
FROM (FROM inputs WHERE version = $before) a FULL JOIN (FROM inputs WHERE version = $after) b USING (category, method, name)
WHERE a.value IS DISTINCT FROM b.value ORDER BY ALL
"""


class Changed(NamedTuple):
    """Inputs that differ between two manifests: parameters of the plan, parameters of the rendering, and other inputs of the plan."""

    planned: Sequence[str]
    rendered: Sequence[str]
    planners: Sequence[str]


NOTHING = Changed((), (), ())


def changed_inputs(database: Database, names: Mapping[str, Any]) -> Mapping[tuple[str, str], Changed]:
    """By category and method, the inputs that differ. `names`: the versions `before` and `after`."""
    query = f"""
        SELECT i.category, i.method, i.name, bool_or(k.is_rendering) AS is_rendering FROM ({INPUTS}) i
        JOIN inputs k USING (category, method, name) GROUP BY ALL ORDER BY i.name
    """
    found: dict[tuple[str, str], Changed] = {}
    for row in rows(database, query, names):
        planned, rendered, planners = found.get((row["category"], row["method"]), NOTHING)
        if (name := row["name"]) in PLANNERS:
            planners = (*planners, PLANNERS[name])
        elif name not in DIGESTS:
            planned, rendered = (planned, (*rendered, name)) if row["is_rendering"] else ((*planned, name), rendered)
        found[row["category"], row["method"]] = Changed(planned, rendered, planners)
    return found


def in_words(causes: Sequence[str], changed: Changed) -> str:
    """The causes of a sample's change, parameters by name, joined by ` + `."""
    return " + ".join(dict.fromkeys(_told(cause, changed) for cause in causes))


def _told(cause: str, changed: Changed) -> str:
    if cause == "count":
        names = [name for name in changed.planned if name in NO_ROW[:2]]
        return _parameter(names) or " + ".join(one for one in changed.planners if one == PLANNERS["missed"]) or "the plan"
    if cause == "rendered":
        return _parameter(changed.rendered) or "a parameter that the manifests do not name"
    if cause == "planned":  # a parameter may decide both: a defect's rotation stands in its row, and decides its rendering
        chosen = [name for name in changed.planned if name not in NO_ROW] or changed.rendered
        others = [one for one in changed.planners if one != VERDICT] or changed.planners
        return _parameter(chosen) or " + ".join(others) or "the plan"
    return cause


def _parameter(names: Sequence[str]) -> str:
    return f"parameter {', '.join(names)}" if names else ""
