"""Segmentation metrics of the defect class. All values are fractions in [0, 1]; the paper prints percent.

Shapes: masks (N, H, W) {0, 1}, 1 = defect; scores (N, H, W) float, larger = more likely defect.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from stage.core.errors import DataError

Scores = NDArray[np.floating]
Masks = NDArray[np.uint8]
PRO_LIMIT = 0.3  # largest false positive rate of the PRO integral; Bergmann et al. 2020


class Confusion(NamedTuple):
    """Pixel counts of the defect class, summed over images."""

    true_positives: int
    false_positives: int
    false_negatives: int
    true_negatives: int


def confusion(predicted: NDArray[np.generic], masks: Masks) -> Confusion:
    """Pixel counts of a binary prediction (N, H, W) against the ground truth."""
    guess, truth = predicted.astype(bool), masks.astype(bool)
    hits, marked, defective = (int(np.count_nonzero(pixels)) for pixels in (guess & truth, guess, truth))
    return Confusion(hits, marked - hits, defective - hits, truth.size - marked - defective + hits)


def defect_scores(counts: Confusion) -> dict[str, float]:
    """IoU and Acc of the defect class, and mmsegmentation's own mIoU, which includes the background.

    Acc is mmsegmentation's accuracy of a class, TP / (TP + FN), not the share of correct pixels.
    """
    hits, false_alarms, missed, quiet = counts
    _require_defect(hits + missed)
    iou = hits / (hits + false_alarms + missed)
    background = quiet + false_alarms + missed
    # As in mmsegmentation, a class that is neither present nor predicted is left out of the mean.
    mean = (iou + quiet / background) / 2 if background else iou
    return {"iou": iou, "acc": hits / (hits + missed), "miou_with_background": mean}


def pixel_scores(scores: Scores, masks: Masks) -> dict[str, float]:
    """Threshold-free metrics per pixel: AUROC, AP, the best F1 with its threshold, and PRO."""
    _require_defect(int(np.count_nonzero(masks)))
    flat, truth = scores.ravel(), masks.ravel()
    f1, threshold = best_f1(flat, truth)
    return {
        "auroc": float(roc_auc_score(truth, flat)),
        "ap": float(average_precision_score(truth, flat)),
        "f1": f1,
        "f1_threshold": threshold,
        "pro": pro(scores, masks),
    }


def best_f1(scores: Scores, truth: NDArray[np.generic]) -> tuple[float, float]:
    """The largest F1 over all thresholds, and that threshold: `scores >= threshold` reaches it. Flat arrays."""
    precision, recall, thresholds = precision_recall_curve(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, np.finfo(float).tiny)
    best = int(np.argmax(f1[:-1]))  # the last point of the curve has no threshold
    return float(f1[best]), float(thresholds[best])


def pro(scores: Scores, masks: Masks, *, limit: float = PRO_LIMIT) -> float:
    """Per-region overlap, integrated over false positive rates 0 to `limit` and divided by `limit`.

    The overlap at a threshold is the share of a ground-truth region that is found, averaged over the 8-connected regions.
    The false positive rate is taken over the pixels outside regions, in the given images only.
    """
    order = np.argsort(-scores.ravel(), kind="stable")
    ranked = scores.ravel()[order]
    last_of_tie = np.append(np.flatnonzero(np.diff(ranked)), ranked.size - 1)
    # A falling threshold adds pixels in the order of their scores, so both rates are running sums over one sort.
    overlap = np.cumsum(_region_weights(masks).ravel()[order])[last_of_tie]
    normal = masks.ravel()[order] == 0
    rate = np.cumsum(normal)[last_of_tie] / max(int(normal.sum()), 1)
    rate, overlap = np.append(0.0, rate), np.append(0.0, overlap)
    inside = rate <= limit
    x = np.append(rate[inside], limit)
    y = np.append(overlap[inside], np.interp(limit, rate, overlap))
    return float(np.trapezoid(y, x) / limit)


def image_scores(defective: Scores, good: Scores) -> dict[str, float]:
    """AUROC and AP per image, scored by its highest pixel; empty if there are no good images."""
    if not len(good):
        return {}
    scores = np.concatenate([defective.max(axis=(1, 2)), good.max(axis=(1, 2))])
    truth = np.repeat([1, 0], [len(defective), len(good)])
    return {"image_auroc": float(roc_auc_score(truth, scores)), "image_ap": float(average_precision_score(truth, scores))}


def _region_weights(masks: Masks) -> NDArray[np.float64]:
    """Each pixel's share of the mean overlap, (N, H, W): 1 / (area of its region x number of regions), or 0 outside regions."""
    weights, region_count = np.zeros(masks.shape), 0
    for weight, mask in zip(weights, masks, strict=True):
        regions: NDArray[np.intp] = np.asarray(label(mask, connectivity=2))
        areas = np.bincount(regions.ravel())
        region_count += len(areas) - 1
        weight[regions > 0] = 1.0 / areas[regions[regions > 0]]
    return weights / max(region_count, 1)


def _require_defect(pixel_count: int) -> None:
    if pixel_count == 0:
        raise DataError(
            "Expected at least one defect pixel in the masks of the test images, found none, so that IoU, AP and PRO are undefined. "
            "Look at the masks of this category in the summary of `prepare`."
        )
