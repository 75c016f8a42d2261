"""The arms side by side: rows of the report's tables, from the published results."""

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import pandas as pd

from stage.segmentation.arms import PERFECT, arm_name
from stage.segmentation.results import Results, mean_over_seeds, rows_where
from stage.segmentation.scores import ALL_TYPES
from stage.segmentation.verdicts import SHOWN

DASH = "–"
METRICS = {
    "ap": ("AP, %", "Per pixel: average precision over all thresholds."),
    "iou": (
        "IoU, %",
        "Of the defect class: pixels that truth and prediction share, of those that either has, at the threshold, which "
        "has a column of its own. The paper's mIoU is its average over categories.",
    ),
    "acc": ("Acc, %", "Of the defect class: share of the true defect pixels that were found, at that threshold."),
    "threshold": (
        "Threshold",
        "The defect probability above which a pixel is marked: chosen on folds of the real third, one half without folds.",
    ),
    "iou_half": ("IoU at ½, %", "IoU where the likelier class decides, as in mmsegmentation."),
    "acc_half": ("Acc at ½, %", "Acc likewise."),
    "miou_with_background": ("mIoU with background, %", "mmsegmentation's own mean over both classes; the background lifts it."),
    "auroc": ("AUROC, %", "Per pixel, over the defective test images: chance that a random defect pixel scores above a random normal one."),
    "pro": ("PRO, %", "Share of every defect region that is covered, averaged up to 30 % false positive pixels."),
    "f1": (
        "F1, %",
        "Per pixel, at its best threshold. The paper's F1 is not defined there and cannot be this one: do not compare the two.",
    ),
    "image_auroc": ("Image AUROC, %", "Chance that a defective image scores above a normal one."),
    "image_ap": ("Image AP, %", "Average precision of calling an image defective."),
    "false_alarm_images": ("False alarms, % of images", "Normal test images with any pixel marked at the threshold; smaller is better."),
    "false_alarm_pixels": ("False pixels per image", "Pixels marked in a normal test image; smaller is better."),
}
NUMBERS = ("threshold", "false_alarm_pixels")  # the others are fractions, shown in percent
OF_TYPES = ("ap", "iou", "acc", "auroc", "pro")  # shown per defect type; the others need normal images, or say little of a part


class Difference(NamedTuple):
    """A metric of an arm minus the real third's alone, and its 95 % interval, as fractions."""

    difference: float
    low: float
    high: float

    @property
    def is_sure(self) -> bool:
        """Whether the interval leaves zero out."""
        return self.low > 0 or self.high < 0


class Whisker(NamedTuple):
    """A difference as it is drawn, in percent of the axis to either side of zero: ends that are cut at the axis's own, and what is beyond."""

    low: float
    high: float
    point: float
    is_cut_low: bool
    is_cut_high: bool


class ArmRow(NamedTuple):
    """An arm's metrics of a category, or of the average, as means over seeds; the real third alone has no differences.

    `spreads`: standard deviations over seeds, where there are several.
    """

    category: str
    segmenter: str
    arm: str
    values: Mapping[str, float]
    differences: Mapping[str, Difference]
    spreads: Mapping[str, float]


class TypeRow(NamedTuple):
    """An arm's metrics over one defect type, as means over seeds, and their differences to the real third's alone."""

    segmenter: str
    defect: str
    arm: str
    values: Mapping[str, float]
    differences: Mapping[str, Difference]


def arm_rows(results: Results) -> list[ArmRow]:
    """Every arm with all of the real third; by category, the average last, and by segmenter."""
    spreads = _spreads(results.scores)
    means = rows_where(mean_over_seeds(results.scores), real_per_type=0).to_dict("records")
    told = [(row["category"], row["segmenter"], row["arm"]) for row in means]
    return [
        ArmRow(*names, values=_defined(row), differences=_differences(results.differences, row), spreads=spreads[names])
        for names, row in zip(told, means, strict=True)
    ]


def _spreads(scores: pd.DataFrame) -> Mapping[tuple[str, str, str], dict[str, float]]:
    """Standard deviations over seeds by category, segmenter and arm, of each metric; none of a single seed."""
    found: dict[tuple[str, str, str], dict[str, float]] = defaultdict(dict)
    shown = rows_where(scores, defect=ALL_TYPES, real_per_type=0)
    spreads = shown.groupby(["category", "segmenter", "arm", "metric"]).value.std().dropna().reset_index()
    for row in spreads.to_dict("records"):
        found[row["category"], row["segmenter"], row["arm"]][row["metric"]] = row["value"]
    return found


def type_rows(results: Results, category: str) -> list[TypeRow]:
    """Every arm with all of the real third; by defect type and segmenter."""
    scores = rows_where(results.scores, category=category, real_per_type=0)
    scores = scores.loc[scores.defect != ALL_TYPES]
    keys = ["segmenter", "defect", "arm"]
    means = scores.pivot_table(index=keys, columns="metric", values="value", sort=False).reset_index()
    types = rows_where(results.types, category=category)
    return [
        TypeRow(
            row["segmenter"],
            row["defect"],
            row["arm"],
            _defined(row),
            _found(rows_where(types, **{name: row[name] for name in keys})),
        )
        for row in means.to_dict("records")
    ]


def best_arm(rows: list[ArmRow], category: str, methods: tuple[str, ...]) -> str:
    """Of the arms with samples, the one with the highest AP of the first segmenter in a category."""
    arms = {row.arm: row.values["ap"] for row in reversed(rows) if row.category == category}
    return max(map(arm_name, methods), key=arms.__getitem__)


def thresholds(rows: list[ArmRow], category: str) -> dict[str, float]:
    """The threshold of each arm in a category, for the first segmenter, whose predictions are shown."""
    return {row.arm: row.values["threshold"] for row in reversed(rows) if row.category == category}


def reach(rows: list[ArmRow], metric: str) -> float:
    """Half the length of the axis on which a metric's intervals are drawn, as a fraction.

    That is the largest distance from zero of any interval, of the arms that have real defects and no drawn samples: those of
    the others are large, and methods could not be told apart beside them.
    """
    ends = [(row.arm, abs(end)) for row in rows if metric in row.differences for end in row.differences[metric]]
    near = [end for arm, end in ends if not arm.endswith(PERFECT) and not arm.startswith("only_")]
    return max(near or [end for _, end in ends], default=0.0) or 1.0


def whisker(one: Difference, axis: float) -> Whisker:
    """A difference on an axis from `-axis` to `axis`."""
    point, low, high = (100 * min(max(value / axis, -1), 1) for value in one)
    return Whisker(low, high, point, one.low < -axis, one.high > axis)


def seeds(results: Results) -> int:
    """How often each arm was trained."""
    return int(results.scores.seed.nunique())


def metric_text(value: float | None, metric: str, spread: float | None = None) -> str:
    """A metric's value in percent, or as a number if it is in NUMBERS, and its spread if there is one; a dash if it is not defined."""
    if value is None:
        return DASH
    text = f"{value:.2f}" if metric == "threshold" else f"{value:.1f}" if metric in NUMBERS else f"{100 * value:.1f}"
    return text if spread is None else f"{text} ± {metric_text(spread, metric)}"


def _defined(row: Mapping[Hashable, Any]) -> dict[str, float]:
    return {metric: float(row[metric]) for metric in METRICS if metric in row and math.isfinite(row[metric])}


def _differences(table: pd.DataFrame, row: Mapping[Hashable, Any]) -> dict[str, Difference]:
    return _found(rows_where(table, **{name: row[name] for name in ("category", "segmenter", "real_per_type", "arm")}))


def _found(rows: pd.DataFrame) -> dict[str, Difference]:
    return {
        one["metric"]: Difference(one["difference"], one["low"], one["high"]) for one in rows.to_dict("records") if one["metric"] in SHOWN
    }
