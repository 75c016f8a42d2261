"""How much of each real defect of the training part is found by a segmenter that was trained without its fold."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from stage.segmentation.arms import REAL_ONLY, Training, folds_of
from stage.segmentation.counts import Counts
from stage.segmentation.scores import DEFECTIVE_FILE, threshold_on


def shares_found(results: Mapping[Training, Path], defects: Sequence[str], groups: Sequence[str], count: int) -> list[float]:
    """The share of each real training image's defect pixels that is marked, given the images' types and groups; empty without folds.

    By the first network, trained on real defects alone, so that samples do not change the result and priorities settle
    (docs/decisions/0020). At the threshold of the best IoU over all folds. `results` as in `tables`, `count` is `segment.folds`.
    """
    first = next(iter(results)).model
    counts = {
        one.fold: Counts.read(place / DEFECTIVE_FILE)
        for one, place in results.items()
        if one.fold >= 0 and (one.model, one.choice.name) == (first, REAL_ONLY)
    }
    if not counts:
        return []
    level = threshold_on(counts.values())
    shares = {fold: iter(_shares(one, level)) for fold, one in counts.items()}
    return [next(shares[fold]) for fold in folds_of(defects, groups, count)]


def _shares(counts: Counts, level: int) -> list[float]:
    pixels = counts.defect.astype(np.float64)
    return (pixels[:, level:].sum(axis=1) / pixels.sum(axis=1)).round(4).tolist()
