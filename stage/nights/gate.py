"""The gate: whether a version of the data may be tagged. Every check is a row with what was found and what is allowed."""

import logging
import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from stage.core.errors import CorruptFileError, DataError, Refusal
from stage.core.params import Params
from stage.core.wording import counted
from stage.datasets.leaks import check_catalogs
from stage.lineage.trees import tree_of
from stage.lineage.versions import version_of
from stage.nights.settings import Gate
from stage.release.fidelity import read_fidelity
from stage.release.reader import sample_rows
from stage.release.uses import check_samples
from stage.segmentation.arms import REAL_ONLY
from stage.segmentation.bootstrap import COMPARED
from stage.segmentation.results import (
    COMPARISON,
    DIFFERENCES,
    SCORES,
    Results,
    mean_over_seeds,
    read_results,
    rows_among,
    rows_where,
    table_in,
)
from stage.segmentation.scores import COLUMNS as SCORE_COLUMNS
from stage.synthesis.method import METHODS

LOG = logging.getLogger(__name__)
KEYS = ("category", "segmenter", "arm")
INTERVALS = ("category", *COMPARISON, "difference", "low", "high")  # columns of DIFFERENCES
Change = dict[str, Any]


class NotPublished(Refusal):
    """A version that must not be tagged; the message has the checks that fail."""


class Check(NamedTuple):
    """A check: its name, where, what was found, what is allowed, and whether it holds."""

    check: str
    where: str
    found: str
    allowed: str
    holds: bool


class Examination(NamedTuple):
    """The checks of a version by itself, its metrics beside the last version's, and why these could not be compared, if they could not."""

    checks: list[Check]
    changes: list[Change]
    problem: str = ""


def examination(data: Path, params: Params, gate: Gate, last: str) -> Examination:
    """What the gate judges a version by. `last`: the tag of the version before, if there is one."""
    checks = published_checks(data, params, gate)
    if not last:
        return Examination(checks, [])
    LOG.info("metrics of %s", last)
    try:
        before = results_of(last)
    except CorruptFileError as error:
        return Examination(checks, [], str(error))
    return Examination(checks, metric_changes(results_here(data), before))


def published_checks(data: Path, params: Params, gate: Gate) -> list[Check]:
    """The checks of a version by itself: no leak, enough accepted samples, enough targets met. `data`: its folder."""
    leaks = [_no_leak(data, category, params) for category in params.categories]
    return [*leaks, *_accepted(data, params, gate.accepted), *_fidelity(data, params, gate.fidelity)]


def metric_changes(now: Results, before: Results) -> list[Change]:
    """AP and IoU of every arm that both versions have, as fractions: before, now, the largest fall that chance explains, and whether it is `worse`.

    Chance: in each version, how far the 95 % interval of the arm's difference to real defects alone reaches below that difference, added
    like independent errors. Real defects alone, which have no such difference, take the widest of their category.
    """
    values, earlier = (mean_over_seeds(rows_where(one.scores, real_per_type=0)) for one in (now, before))
    both = values.merge(earlier, on=list(KEYS), suffixes=("", "_before"))
    return [_change(row, metric, now, before) for row in both.to_dict("records") for metric in COMPARED if not math.isnan(row[metric])]


def metric_checks(changes: Sequence[Change]) -> Iterator[Check]:
    """The changes as checks."""
    for one in changes:
        where = " ".join(str(one[name]) for name in KEYS)
        found = f"{one['before']:.4f} -> {one['now']:.4f}"
        yield Check(one["metric"], where, found, f"at most {one['allowed']:.4f} lower", not one["worse"])


def results_of(tag: str) -> Results:
    """The tables of results of a tagged version, from DVC's cache or remote. Raises CorruptFileError if they are in neither, or damaged."""
    tree, tables = tree_of(version_of(tag)), list[pd.DataFrame]()
    for name, columns in ((SCORES, SCORE_COLUMNS), (DIFFERENCES, INTERVALS)):
        with tree.open(f"evaluate/{name}") as file:
            tables.append(table_in(file, f"evaluate/{name} of {tag}", columns))
    return Results(*tables)


def results_here(data: Path) -> Results:
    """The same tables of the version that was just made."""
    return read_results(data)


def _no_leak(data: Path, category: str, params: Params) -> Check:
    LOG.info("leaks of %s", category)
    try:
        check_catalogs(data / "prepare", [category], share_base=False)
        check_samples(data / "prepare", category, [data / "synthesize" / category / method for method in params.methods])
    except DataError as error:
        return Check("leaks", category, str(error), "none", holds=False)
    return Check("leaks", category, "none", "none", holds=True)


def _accepted(data: Path, params: Params, least: float) -> Iterator[Check]:
    for category in params.categories:
        for method in params.methods:
            LOG.info("samples of %s %s", category, method)
            verdicts = pd.Series([row["verdict"] for row in sample_rows(data / "synthesize" / category / method, ["verdict"])], dtype=str)
            share = float((verdicts == "accepted").mean()) if len(verdicts) else 0.0
            yield Check("accepted samples", f"{category} {method}", f"{share:.3f}", f"at least {least:g}", share >= least)


def _fidelity(data: Path, params: Params, least: float) -> Iterator[Check]:
    """The fidelity checks of the methods that show a type's real defects; samples of the others need not resemble them."""
    table = read_fidelity(data)
    judged = rows_among(rows_among(table, ["met", "missed"], "target"), params.categories, "category")
    judged = rows_among(judged, [name for name in params.methods if not METHODS[name].nominal], "made_by")
    shares = judged.target.eq("met").groupby(judged.category + " " + judged.made_by).mean()
    for where, share in shares.items():
        yield Check("fidelity targets", str(where), f"{share:.3f}", f"at least {least:g}", bool(share >= least))


def _change(row: Mapping[Hashable, Any], metric: str, now: Results, before: Results) -> Change:
    allowed = math.hypot(*(_half_width(one.differences, row, metric) for one in (now, before)))
    fall = row[f"{metric}_before"] - row[metric]
    told = {name: row[name] for name in KEYS} | {"metric": metric, "before": row[f"{metric}_before"], "now": row[metric]}
    return {**told, "allowed": allowed, "worse": bool(fall > allowed)}


def _half_width(differences: pd.DataFrame, row: Mapping[Hashable, Any], metric: str) -> float:
    """The distance from the difference to the lower end of its interval; 0 if a version has no interval, since then nothing excuses a fall."""
    there = rows_where(differences, category=row["category"], segmenter=row["segmenter"], metric=metric, real_per_type=0, against=0)
    own = there if row["arm"] == REAL_ONLY else rows_where(there, arm=row["arm"])
    return float((own.difference - own.low).max()) if len(own) else 0.0


def refusal(checks: Sequence[Check], tag: str) -> NotPublished | None:
    """The error for checks that do not hold; None if all hold. `tag`: the version compared with, if there is one."""
    failed = [one for one in checks if not one.holds]
    if not failed:
        return None
    told = "".join(f"\n  {one.check}, {one.where}: {one.found} (allowed: {one.allowed})" for one in failed)
    return NotPublished(
        f"Expected a version that is not worse{f' than {tag}' if tag else ''}, found {counted(len(failed), 'failing check')}:{told}"
    )
