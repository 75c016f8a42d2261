"""What segmenters find of the real defects of the training part, each from the fold that it had not seen."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stage.segmentation.arms import REAL_ONLY, Training, folds_of
from stage.segmentation.counts import Counts
from stage.segmentation.scores import threshold_on
from stage.segmentation.tables import DEFECTIVE_FILE


def shares_found(results: Mapping[Training, Path], defects: Sequence[str], groups: Sequence[str], count: int) -> list[float]:
    """Of each real training image, whose types and groups are given, the share of its defect's pixels that is marked; none without folds.

    By the first network, trained on real defects alone: what samples were made of changes no verdict, so priorities settle
    (docs/decisions/0020). At the threshold of the best IoU over all folds. `results` as in `side_by_side`, `count` is `segment.folds`.
    """
    first = next(iter(results)).model
    counts = {
        one.fold: Counts.read(place / DEFECTIVE_FILE)
        for one, place in results.items()
        if one.fold >= 0 and (one.model, one.choice.name) == (first, REAL_ONLY)
    }
    if not counts:
        return []
    level = threshold_on([*counts.values()])
    shares = {fold: iter(_shares(one, level)) for fold, one in counts.items()}
    return [next(shares[fold]) for fold in folds_of(defects, groups, count)]


def _shares(counts: Counts, level: int) -> list[float]:
    pixels = counts.defect.astype(np.float64)
    return (pixels[:, level:].sum(axis=1) / pixels.sum(axis=1)).round(4).tolist()
