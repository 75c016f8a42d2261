"""What the numbers say, in sentences that a person can act on, and as a table that fits a terminal."""

from typing import Any

import pandas as pd
from rich.table import Table

from stage.segmentation.arms import REAL_ONLY, arm_label, arm_name
from stage.segmentation.results import AVERAGE, Results, mean_over_seeds, rows_where

WHOLE = 10**6  # in a learning curve, the whole third: more than any number that can be asked for
SHOWN = ("ap", "iou")


def verdict(results: Results, method: str, category: str = AVERAGE) -> str:
    """Whether a method's samples help, by how many points of AP and IoU, on average or in a category; judged by the interval of AP."""
    found = rows_where(results.differences, category=category, arm=arm_name(method), real_per_type=0)
    ap, iou = (rows_where(found, metric=metric).iloc[0] for metric in SHOWN)
    told = f"AP {with_interval(ap)}, IoU {with_interval(iou)} points against real data alone"
    if ap.low > 0:
        return f"Samples of {method} help: {told}."
    if ap.high < 0:
        return f"Samples of {method} harm, and real data alone is better: {told}."
    return f"These data cannot tell whether samples of {method} help: {told}."


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
    """How many real defects a method's samples are worth, from the learning curve; empty where `segment.few` asked for none."""
    curve = learning_curve(results, category)
    if len(curve) == 1:
        return ""
    alone, both = (dict(zip(curve.index, curve[arm], strict=True)) for arm in (REAL_ONLY, arm_name(method)))
    for count in curve.index[:-1]:
        reached = [other for other in curve.index if other > count and alone[other] <= both[count]]
        if reached:
            many = "all of the third" if reached[-1] == WHOLE else str(reached[-1])
            return f"With samples of {method}, {count} of each defect do what {many} did without (AP {100 * both[count]:.1f})."
    return f"With samples of {method}, no number of real defects does what more did without."


def results_table(results: Results) -> Table:
    """A row per category, segmenter and arm, in percent, with the differences to the real third alone; within 100 columns."""
    table = Table("category", "trained on", "AP", "against real only", "IoU", "against real only", title="Real defects never seen, %")
    means = mean_over_seeds(results.scores)
    several = means.segmenter.nunique() > 1
    for row in rows_where(means, real_per_type=0).to_dict("records"):
        found = rows_where(results.differences, real_per_type=0, **{name: row[name] for name in ("category", "arm", "segmenter")})
        told = {one.metric: with_interval(one) for _, one in found.iterrows()}
        arm = arm_label(row["arm"]) + (f", {row['segmenter']}" if several else "")
        table.add_row(row["category"], arm, *(cell for metric in SHOWN for cell in (f"{100 * row[metric]:.1f}", told.get(metric, ""))))
    return table
