"""The results in sentences that a person can act on, and as a table that fits a terminal."""

from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import Any

import pandas as pd
from rich.table import Column, Table

from stage.core.wording import counted
from stage.segmentation.arms import arm_label, arm_name
from stage.segmentation.counts import probability_of
from stage.segmentation.metrics import HALF
from stage.segmentation.results import AVERAGE, Results, mean_over_seeds, rows_where

WHOLE = 10**6  # stands for the whole third in a learning curve: larger than any number that can be asked for
SHOWN = ("ap", "iou")


def verdict(results: Results, method: str, category: str = AVERAGE) -> str:
    """Whether a method's samples help, by how many points of AP and IoU, on average or in a category; judged by the interval of AP."""
    found = rows_where(results.differences, category=category, arm=arm_name(method), real_per_type=0)
    ap, iou = (rows_where(found, metric=metric).iloc[0] for metric in SHOWN)
    once = ", each arm trained once" if rows_where(results.scores, category=category, real_per_type=0).seed.nunique() == 1 else ""
    told = f"AP, which decides, {with_interval(ap)}, IoU {with_interval(iou)} points against real data alone{once}"
    if ap.low > 0:
        return f"Samples of {method} help: {told}."
    if ap.high < 0:
        return f"Samples of {method} harm, and real data alone is better: {told}."
    return f"These data cannot tell whether samples of {method} help: {told}."


def threshold_note(results: Results) -> str:
    """Which categories have no threshold chosen on folds, and what that means; empty if all have one."""
    levels = rows_where(results.scores, metric="threshold", real_per_type=0)
    levels = levels[levels.category != AVERAGE]
    is_half = levels.value.sub(probability_of(HALF)).abs().lt(1e-6).groupby(levels.category, sort=False).all()
    names = is_half[is_half].index
    where = "" if len(names) == len(is_half) else f" of {', '.join(names)}"
    told = (
        f"IoU{where} is at a threshold of one half in every arm, which mixes calibration into it: with segment.folds each arm gets its own."
    )
    return told if len(names) else ""


def with_interval(found: Any) -> str:
    """A `difference` in points with its 95 % interval, from `low` to `high`, as `+3.1 (+1.0 to +5.2)`."""
    return f"{signed(found.difference)} ({signed(found.low)} to {signed(found.high)})"


def signed(fraction: float) -> str:
    """A difference of fractions in percentage points; without a sign where it rounds to nothing."""
    text = f"{100 * fraction:+.1f}"
    return "0.0" if text in {"+0.0", "-0.0"} else text.replace("-", "−")


def learning_curve(results: Results, category: str) -> pd.DataFrame:
    """AP by arm (columns) and number of real defects per type (rows; WHOLE, the last, for the whole third); first segmenter, mean over seeds."""
    means = mean_over_seeds(results.scores)
    means = rows_where(means, category=category, segmenter=means.segmenter.iloc[0]).replace({"real_per_type": {0: WHOLE}})
    return means.pivot_table(index="real_per_type", columns="arm", values="ap").reindex(columns=list(dict.fromkeys(means.arm)))


def worth(results: Results, category: str, method: str) -> str:
    """How many real defects a method's samples are worth, from the learning curve; empty where `segment.few` asked for none.

    It names the smallest number that does as well with samples as a larger one without, where the interval says that samples help.
    """
    curve = learning_curve(results, category)
    if len(curve) == 1:
        return ""
    gains = _gains(results, category, method)
    unsure = ""
    for count in curve.index[:-1]:
        if not (reached := _reached(gains, count, curve.index)):
            continue
        many = "all of the third" if reached == WHOLE else str(reached)
        difference, gain = gains[count, reached], gains[count, count]
        photographs = f"{counted(count, 'photograph')} of each defect"
        if gain.low > 0:
            told = f"{photographs} do{'es' if count == 1 else ''} as well as {many} without samples"
            return f"With samples of {method}, {told}: the difference in AP is {with_interval(difference)} points."
        unsure = unsure or (
            f"These data cannot tell how many real defects samples of {method} are worth: with {photographs} and samples the difference in AP "
            f"to {many} without them is {with_interval(difference)} points, but to {count} without them it is {with_interval(gain)}."
        )
    return unsure or f"With samples of {method}, no number of real defects does as well as a larger number without samples."


def _gains(results: Results, category: str, method: str) -> dict[tuple[int, int], Any]:
    """The differences in AP of the first segmenter, by the number of real defects per type with samples, and by that without."""
    segmenter = results.scores.segmenter.iloc[0]
    found = rows_where(results.differences, category=category, arm=arm_name(method), metric="ap", segmenter=segmenter)
    found = found.replace({"real_per_type": {0: WHOLE}, "against": {0: WHOLE}})
    return {(row["real_per_type"], row["against"]): pd.Series(row) for row in found.to_dict("records")}


def _reached(gains: Mapping[tuple[int, int], Any], count: int, counts: Iterable[int]) -> int | None:
    """The largest number that `count` with samples matches, as well as every number below it: a dip of the curve proves nothing.

    None if that is `count` itself, or if it does not match even that.
    """
    passed = list(takewhile(lambda other: gains[count, other].difference >= 0, (other for other in counts if other >= count)))
    return passed[-1] if len(passed) > 1 else None


def results_tables(results: Results) -> list[Table]:
    """A table per segmenter within 100 columns: a row per category and arm, in percent, with the differences to the real third alone."""
    means = rows_where(mean_over_seeds(results.scores), real_per_type=0)
    if means.category.nunique() == 2:  # one category is its own average
        means = means.loc[means.category != AVERAGE]
    return [_results_table(results, rows_where(means, segmenter=segmenter)) for segmenter in means.segmenter.unique()]


def _results_table(results: Results, means: pd.DataFrame) -> Table:
    title = f"Real defects never seen, %, {means.segmenter.iloc[0]}"
    numbers = (Column(head, no_wrap=True) for head in ("AP", "against real only", "IoU", "against real only"))
    table = Table("category", "trained on", *numbers, title=title)  # long names wrap, numbers do not
    for row in means.to_dict("records"):
        found = rows_where(results.differences, real_per_type=0, **{name: row[name] for name in ("category", "arm", "segmenter")})
        told = {one.metric: with_interval(one) for _, one in found.iterrows()}
        cells = (cell for metric in SHOWN for cell in (f"{100 * row[metric]:.1f}", told.get(metric, "")))
        table.add_row(row["category"], arm_label(row["arm"]), *cells)
    return table
