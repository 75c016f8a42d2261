"""Two arms side by side: the real third alone, and the same with a method's samples."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from stage.segmentation.arms import REAL_ONLY

METRICS = {
    "iou": (
        "IoU",
        "of the defect class: pixels that truth and prediction share, of those that either has. The paper's mIoU is its average over categories.",
    ),
    "acc": ("Acc", "of the defect class: share of the true defect pixels that were found."),
    "miou_with_background": ("mIoU with background", "mmsegmentation's own mean over both classes; the background lifts it."),
    "auroc": ("AUROC", "per pixel, over the defective test images: chance that a random defect pixel scores above a random normal one."),
    "pro": ("PRO", "share of every defect region that is covered, averaged up to 30 % false positive pixels."),
    "f1": ("F1", "per pixel, at the best threshold. The paper's F1 is not defined there and cannot be this one: do not compare the two."),
    "ap": ("AP", "per pixel: average precision over all thresholds."),
    "image_auroc": ("Image AUROC", "chance that a defective image scores above a normal one; normal test images included."),
    "image_ap": ("Image AP", "average precision of calling an image defective; normal test images included."),
}

# Standard deviation of the difference in IoU of two single runs, in points: on MVTec AD's bottle at 64 px, with three seeds, the
# arms had 3.3 and 1.5 points, together sqrt(3.3^2 + 1.5^2).
SEED_SCATTER = 3.6


class Score(NamedTuple):
    """One metric of both arms, as fractions; None where it is not defined for this data."""

    real_only: float | None
    both: float | None

    @property
    def difference(self) -> float | None:
        """What the synthetic samples added."""
        return None if self.real_only is None or self.both is None else self.both - self.real_only


def scores(metrics: Mapping[str, Mapping[str, float | None]], arm: str) -> dict[str, Score]:
    """The scores of the real third alone and of an arm, from a category's metrics.json, by metric."""
    arms = metrics[REAL_ONLY], metrics[arm]
    return {name: Score(*(_defined(arm.get(name)) for arm in arms)) for name in METRICS}


def macro_average(categories: Sequence[Mapping[str, Score]]) -> dict[str, Score]:
    """Per metric the mean over those categories where both arms have a value."""
    return {name: _mean(category[name] for category in categories) for name in METRICS}


def verdict(differences: Sequence[float | None]) -> str:
    """One plain sentence on whether synthesis helped, from each category's difference in IoU (fractions)."""
    points = [100 * difference for difference in differences if difference is not None]
    if not points:
        return "No IoU could be computed, so this run says nothing about whether synthetic samples help."
    mean, scatter = sum(points) / len(points), 2 * SEED_SCATTER / math.sqrt(len(points))
    if abs(mean) <= scatter:
        return (
            f"No clear difference: with synthetic samples the IoU of the defect class changes by {_signed(mean)} points on average, "
            f"and another seed alone can move it by about ±{scatter:.0f}. This run shows neither help nor harm."
        )
    better = sum(point > 0 for point in points)
    word = "helped" if mean > 0 else "harmed"
    return (
        f"Synthetic samples {word}: the IoU of the defect class changes by {_signed(mean)} points on average and rises in "
        f"{better} of {len(points)} categories; another seed alone can move the average by about ±{scatter:.0f}."
    )


def percent(fraction: float | None) -> str:
    """A fraction in percent with one decimal, or a dash."""
    return "–" if fraction is None else f"{100 * fraction:.1f}"


def points(difference: float | None) -> str:
    """A difference of fractions in percentage points, signed, or a dash."""
    return "–" if difference is None else _signed(100 * difference)


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−").replace("−0.0", "0.0").replace("+0.0", "0.0")


def _defined(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _mean(values: Iterable[Score]) -> Score:
    pairs = [(score.real_only, score.both) for score in values if score.real_only is not None and score.both is not None]
    if not pairs:
        return Score(None, None)
    return Score(sum(pair[0] for pair in pairs) / len(pairs), sum(pair[1] for pair in pairs) / len(pairs))
