"""Segmentation metrics of the defect class, from counts of scores. All values are fractions in [0, 1]; the paper prints percent.

A threshold is a level of `counts`: pixels of that level or a higher one are marked.
"""

import numpy as np
from numpy.typing import NDArray

from stage.core.errors import DataError
from stage.segmentation.counts import LEVELS, Counts, Total

PRO_LIMIT = 0.3  # largest false positive rate of the PRO integral; Bergmann et al. 2020
HALF = LEVELS // 2  # the lowest level at which defect is the likelier class


def threshold_scores(total: Total, level: int) -> dict[str, float]:
    """IoU and Acc of the defect class, and mmsegmentation's own mIoU, which includes the background, at a threshold.

    Acc is mmsegmentation's accuracy of a class, TP / (TP + FN), not the share of correct pixels.
    """
    hits, false_alarms = (float(column[level:].sum()) for column in (total.defect, total.normal))
    missed, quiet = float(total.defect.sum()) - hits, float(total.normal.sum()) - false_alarms
    _require_defect(hits + missed)
    iou = hits / (hits + false_alarms + missed)
    background = quiet + false_alarms + missed
    # As in mmsegmentation, a class that is neither present nor predicted is left out of the mean.
    mean = (iou + quiet / background) / 2 if background else iou
    return {"iou": iou, "acc": hits / (hits + missed), "miou_with_background": mean}


def pixel_scores(total: Total) -> dict[str, float]:
    """Threshold-free metrics per pixel: AP, the best F1, and where there are normal pixels AUROC and PRO."""
    above = total.at_least()
    positives, negatives = above.defect[0], above.normal[0]
    _require_defect(positives)
    recall, rate = above.defect / positives, above.normal / max(negatives, 1)
    marked = above.defect + above.normal
    precision = np.divide(above.defect, marked, out=np.ones_like(marked), where=marked > 0)
    f1 = 2 * above.defect / (marked + positives)
    found = {"ap": float(-np.sum(np.diff(np.append(recall, 0.0)) * precision)), "f1": float(f1.max())}
    if negatives:
        found |= {"auroc": float(np.trapezoid(np.append(recall, 0.0)[::-1], np.append(rate, 0.0)[::-1])), "pro": _pro(above, rate)}
    return found


def best_level(total: Total) -> int:
    """The threshold with the highest IoU of the defect class; the middle one of several equally good ones.

    HALF if nothing is better than marking every pixel: such scores say nothing about a threshold.
    """
    above = total.at_least()
    _require_defect(above.defect[0])
    iou = above.defect / (above.defect[0] + above.normal)
    best = np.flatnonzero(iou >= iou.max() - 1e-12)
    return HALF if best[0] == 0 else int(best[len(best) // 2])


def _pro(above: Total, rate: NDArray[np.float64]) -> float:
    """Per-region overlap, integrated over false positive rates 0 to PRO_LIMIT and divided by it.

    The overlap at a threshold is the share of a ground-truth region that is found, averaged over the 8-connected regions.
    The false positive rate is taken over the pixels outside regions, in the given images only.
    """
    x, y = np.append(rate, 0.0)[::-1], np.append(above.found / max(above.regions, 1), 0.0)[::-1]
    inside = x <= PRO_LIMIT
    return float(np.trapezoid(np.append(y[inside], np.interp(PRO_LIMIT, x, y)), np.append(x[inside], PRO_LIMIT)) / PRO_LIMIT)


def image_scores(defective: Counts, good: Counts) -> dict[str, float]:
    """AUROC and AP per image, scored by its highest pixel; empty if there are no good images."""
    if not len(good.regions):
        return {}
    scores = np.concatenate([_highest(defective), _highest(good)])
    from sklearn.metrics import average_precision_score, roc_auc_score  # here, because it takes a second to load

    truth = np.repeat([1, 0], [len(defective.regions), len(good.regions)])
    return {"image_auroc": float(roc_auc_score(truth, scores)), "image_ap": float(average_precision_score(truth, scores))}


def false_alarms(good: Counts, level: int) -> dict[str, float]:
    """At a threshold, the share of normal images with any marked pixel, and marked pixels per normal image; empty without normal images."""
    if not len(good.regions):
        return {}
    marked = good.normal[:, level:].sum(axis=1)
    return {"false_alarm_images": float((marked > 0).mean()), "false_alarm_pixels": float(marked.mean())}


def _highest(counts: Counts) -> NDArray[np.int64]:
    seen = (counts.defect + counts.normal) > 0
    return LEVELS - 1 - np.argmax(seen[:, ::-1], axis=1)


def _require_defect(pixel_count: float) -> None:
    if pixel_count == 0:
        raise DataError(
            "Expected at least one defect pixel in the masks of the test images, found none, so that IoU, AP and PRO are undefined. "
            "Look at the masks of this category in the summary of `prepare`."
        )
