from itertools import pairwise

import numpy as np
import pytest
import torch
from skimage.measure import label
from sklearn.metrics import f1_score

from stage.segmentation.metrics import Confusion, best_f1, confusion, defect_scores, image_scores, pixel_scores, pro


def noisy_scores(seed: int, *, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Three images with several defects each, and scores that find them imperfectly, tied where `levels` is given."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((3, 20, 20), np.uint8)
    masks[0, 2:6, 3:9] = masks[0, 12, 12] = masks[1, 10:18, 1:3] = masks[2, 0, :] = masks[2, 5, 5] = masks[2, 6, 6] = 1
    scores = 1 / (1 + np.exp(-(rng.normal(size=masks.shape) + 1.5 * masks)))
    return (np.round(scores * levels) / levels if levels else scores), masks


def slow_pro(scores: np.ndarray, masks: np.ndarray, limit: float) -> float:
    """The definition: at every threshold, the mean share found of each 8-connected region; trapezoids up to the limit."""
    regions = [(i, labels == k) for i, labels in enumerate(label(m, connectivity=2) for m in masks) for k in range(1, labels.max() + 1)]
    rates, overlaps = [0.0], [0.0]
    for threshold in np.unique(scores)[::-1]:
        found = scores >= threshold
        rates.append(float(found[masks == 0].mean()))
        overlaps.append(float(np.mean([found[i][region].mean() for i, region in regions])))
    grid = sorted({*rates, limit})
    area = 0.0
    for left, right in pairwise(grid):
        if right <= limit:
            at_left = max(o for r, o in zip(rates, overlaps, strict=True) if r == left)
            at_right = min(
                (o for r, o in zip(rates, overlaps, strict=True) if r == right), default=float(np.interp(right, rates, overlaps))
            )
            area += (right - left) * (at_left + at_right) / 2
    return area / limit


def test_iou_and_acc_of_four_pixels_by_hand():
    """Otherwise the headline numbers would be wrong: one hit, one false alarm, one miss, one right background pixel."""
    counts = confusion(np.array([[[1, 1], [0, 0]]]), np.array([[[1, 0], [1, 0]]], np.uint8))
    assert counts == Confusion(true_positives=1, false_positives=1, false_negatives=1, true_negatives=1)
    scores = defect_scores(counts)
    assert scores == pytest.approx({"iou": 1 / 3, "acc": 1 / 2, "miou_with_background": 1 / 3})


def test_counts_are_summed_over_images_before_the_ratio():
    """Otherwise a tiny defect's image would weigh as much as a large one's: 4/4 and 0/1 are IoU 4/5, not 1/2."""
    masks = np.zeros((2, 2, 2), np.uint8)
    masks[0], masks[1, 0, 0] = 1, 1
    predicted = masks.copy()
    predicted[1] = 0
    assert defect_scores(confusion(predicted, masks))["iou"] == pytest.approx(4 / 5)


def test_a_defect_never_predicted_scores_zero():
    """Otherwise a failed segmenter would show as nan and drop out of the averages."""
    scores = defect_scores(confusion(np.zeros((1, 2, 2)), np.eye(2, dtype=np.uint8)[None]))
    assert (scores["iou"], scores["acc"]) == (0.0, 0.0)


def test_masks_without_any_defect_are_refused():
    """Otherwise metrics of an empty test set would be printed as if they meant something."""
    with pytest.raises(ValueError, match="at least one defect pixel"):
        defect_scores(Confusion(0, 0, 0, 4))
    with pytest.raises(ValueError, match="at least one defect pixel"):
        pixel_scores(np.zeros((1, 2, 2)), np.zeros((1, 2, 2), np.uint8))


@pytest.mark.parametrize("seed", [0, 1])
def test_defect_scores_agree_with_mmsegmentation(seed: int):
    """Otherwise our IoU, Acc and mIoU could not be compared with published ones."""
    pytest.importorskip("mmseg")
    from mmseg.evaluation import IoUMetric

    scores, masks = noisy_scores(seed)
    predicted = (scores > 0.6).astype(np.uint8)
    areas = [IoUMetric.intersect_and_union(torch.from_numpy(p), torch.from_numpy(m), 2, 255) for p, m in zip(predicted, masks, strict=True)]
    theirs = IoUMetric.total_area_to_metrics(*(sum(area) for area in zip(*areas, strict=True)))
    ours = defect_scores(confusion(predicted, masks))
    assert ours["iou"] == pytest.approx(theirs["IoU"][1])
    assert ours["acc"] == pytest.approx(theirs["Acc"][1])
    assert ours["miou_with_background"] == pytest.approx(np.nanmean(theirs["IoU"]))


@pytest.mark.parametrize("levels", [None, 5])
def test_best_f1_is_the_best_of_all_thresholds(levels: int | None):
    """Otherwise the reported F1 would not be the one that a user reaches with the reported threshold."""
    scores, masks = (array.ravel() for array in noisy_scores(2, levels=levels))
    value, threshold = best_f1(scores, masks)
    assert value == pytest.approx(max(f1_score(masks, scores >= t) for t in np.unique(scores)))
    assert value == pytest.approx(f1_score(masks, scores >= threshold))


def test_auroc_and_ap_by_hand():
    """Otherwise threshold-free metrics could have the classes swapped. Ranking: defect, normal, defect, normal."""
    scores = pixel_scores(np.array([[[0.9, 0.8], [0.7, 0.1]]]), np.array([[[1, 0], [1, 0]]], np.uint8))
    assert scores["auroc"] == pytest.approx(3 / 4)  # 3 of the 4 defect-normal pairs are in order
    assert scores["ap"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert (scores["f1"], scores["f1_threshold"]) == pytest.approx((4 / 5, 0.7))


@pytest.mark.parametrize("limit", [0.3, 0.05, 1.0])
@pytest.mark.parametrize("levels", [None, 7])
def test_pro_agrees_with_its_definition(limit: float, levels: int | None):
    """Otherwise the fast PRO, one sort instead of a pass per threshold, would be another number; ties included."""
    scores, masks = noisy_scores(3, levels=levels)
    assert pro(scores, masks, limit=limit) == pytest.approx(slow_pro(scores, masks, limit))


def test_pro_of_a_perfect_and_of_a_constant_score_by_hand():
    """Otherwise PRO would not be normalised: 1 when all regions come first, and limit / 2 on the diagonal."""
    _, masks = noisy_scores(0)
    assert pro(masks.astype(float), masks) == pytest.approx(1.0)
    assert pro(np.zeros(masks.shape), masks) == pytest.approx(0.3 / 2)


def test_pro_weighs_regions_not_pixels():
    """Otherwise a large defect would hide that a small one was missed: one of two regions found is one half."""
    masks = np.zeros((1, 10, 10), np.uint8)
    masks[0, :4, :4], masks[0, 9, 9] = 1, 1
    scores = np.zeros(masks.shape)
    scores[0, :4, :4] = 1
    scores[0, 9, 9] = -1
    assert pro(scores, masks) == pytest.approx(0.5)


def test_diagonal_neighbours_are_one_region():
    """Otherwise a thin diagonal scratch would count as many defects."""
    masks = np.zeros((1, 8, 8), np.uint8)
    masks[0, 1, 1] = masks[0, 2, 2] = masks[0, 6, 6] = 1
    scores = np.zeros(masks.shape)
    scores[0, 1, 1] = scores[0, 2, 2] = -1
    scores[0, 6, 6] = 1
    assert pro(scores, masks) == pytest.approx(1 / 2)  # one region of two is found; of three it would be 1/3


def test_image_scores_take_the_highest_pixel():
    """Otherwise a tiny defect's image would look normal; here one pixel decides, and one of two pairs is in order."""
    defective, good = np.zeros((2, 2, 2)), np.zeros((1, 2, 2))
    defective[0, 0, 0], defective[1, 1, 1], good[0] = 0.9, 0.2, 0.5
    assert image_scores(defective, good) == pytest.approx({"image_auroc": 1 / 2, "image_ap": (1 / 1 + 2 / 3) / 2})


def test_without_good_images_there_are_no_image_scores():
    """Otherwise a data set without normal test images would fail, or show a number that means nothing."""
    assert image_scores(np.ones((1, 2, 2)), np.ones((0, 2, 2))) == {}
