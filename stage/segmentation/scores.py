"""A trained segmenter's counts on the test images, and their metrics as rows of one long table."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stage.segmentation.arms import Training
from stage.segmentation.counts import Counts, Total, probability_of, summed
from stage.segmentation.metrics import HALF, best_level, false_alarms, image_scores, pixel_scores, threshold_scores

DEFECTIVE_FILE, GOOD_FILE = "defective.npz", "good.npz"  # in a training's result: the counts of the defective and of the good images
DIGESTS = "+"  # between the digests of a mixture's samples
ALL_TYPES = "(all)"  # no defect type can have such a name
COLUMNS = (  # real_per_type: real defects of each type; 0: the whole third
    "category",
    "segmenter",
    "arm",
    "real_per_type",
    "seed",
    "defect",
    "metric",
    "value",
    "samples",
)


class Measured(NamedTuple):
    """A training, and the folder with the counts of its segmenter, which are read when they are asked for: those of all trainings are large.

    `samples` are the digests of the samples that it saw, joined by DIGESTS, or empty.
    """

    training: Training
    place: Path
    samples: str

    @property
    def compared(self) -> tuple[str, str, int]:
        """What trainings of other seeds share with it: network, arm, and real defects per type."""
        return self.training.model, self.training.choice.name, self.training.choice.few

    def defective(self) -> Counts:
        """On the defective test images."""
        return Counts.read(self.place / DEFECTIVE_FILE)

    def good(self) -> Counts:
        """On the good test images."""
        return Counts.read(self.place / GOOD_FILE)


def threshold_on(folds: Iterable[Counts]) -> int:
    """The level of the best IoU over images that were left out of training, fold by fold; one half if none of them has a defect."""
    total = summed(fold.total() for fold in folds)
    return best_level(total) if total.defect.any() else HALF


def metrics_of(defective: Counts, good: Counts, level: int | None) -> dict[str, float]:
    """Every metric, as fractions: IoU, Acc and false alarms at the threshold `level`, if there is one, IoU and Acc also at one half, the rest at none.

    Per pixel over the defective images, per image over defective and good ones; mmsegmentation's mIoU is taken at one half, as there.
    """
    total = defective.total()
    half = threshold_scores(total, HALF)
    return {
        **({} if level is None else _at_threshold(total, good, level)),
        **{f"{name}_half": half[name] for name in ("iou", "acc")},
        "miou_with_background": half["miou_with_background"],
        **pixel_scores(total),
        **image_scores(defective, good),
    }


def _at_threshold(total: Total, good: Counts, level: int) -> dict[str, float]:
    found = threshold_scores(total, level)
    return {"iou": found["iou"], "acc": found["acc"], **false_alarms(good, level), "threshold": probability_of(level)}


def rows_of(category: str, measured: Measured, level: int | None, defects: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The long table's rows of a training: over all defective test images, whose types are `defects`, and over those of each type."""
    model, arm, few = measured.compared
    of_type, defective, good = np.array(defects), measured.defective(), measured.good()
    for defect in (ALL_TYPES, *sorted(set(defects))):
        rows = np.ones(len(of_type), bool) if defect == ALL_TYPES else of_type == defect
        for metric, value in metrics_of(defective.of_images(rows), good, level).items():
            told = (category, model, arm, few, measured.training.seed, defect, metric, value, measured.samples)
            yield dict(zip(COLUMNS, told, strict=True))
