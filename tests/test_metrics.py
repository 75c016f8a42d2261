from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from skimage.measure import label
from sklearn.metrics import average_precision_score, f1_score, jaccard_score, roc_auc_score

from stage.core.errors import DataError
from stage.segmentation.counts import LEVELS, Counts, Total, quantised
from stage.segmentation.metrics import HALF, PRO_LIMIT, best_level, false_alarms, image_scores, pixel_scores, threshold_scores


def counted(logits: np.ndarray, masks: np.ndarray) -> Counts:
    return Counts.of(zip(logits, masks, strict=True))


def total(logits: np.ndarray, masks: np.ndarray) -> Total:
    return counted(logits, masks).total()


def noisy_scores(seed: int, *, levels: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Three images with several defects each, and logits that find them imperfectly, tied where `levels` is given."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((3, 20, 20), np.uint8)
    masks[0, 2:6, 3:9] = masks[0, 12, 12] = masks[1, 10:18, 1:3] = masks[2, 0, :] = masks[2, 5, 5] = masks[2, 6, 6] = 1
    scores = rng.normal(size=masks.shape) + 1.5 * masks
    return (np.round(scores * levels) / levels if levels else scores), masks


def pro(logits: np.ndarray, masks: np.ndarray) -> float:
    return pixel_scores(total(logits, masks))["pro"]


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
    scores = threshold_scores(total(np.array([[[1, 1], [-1, -1]]]), np.array([[[1, 0], [1, 0]]], np.uint8)), HALF)
    assert scores == pytest.approx({"iou": 1 / 3, "acc": 1 / 2, "miou_with_background": 1 / 3})


def test_one_half_is_where_the_classes_are_as_likely():
    """Otherwise IoU at one half would not be that of mmsegmentation's predictions."""
    assert quantised(np.array([-0.01, 0.01])).tolist() == [HALF - 2, HALF + 1]
    assert quantised(np.array([-1e9, 1e9])).tolist() == [0, LEVELS - 1]


def test_counts_are_summed_over_images_before_the_ratio():
    """Otherwise a tiny defect's image would weigh as much as a large one's: 4/4 and 0/1 are IoU 4/5, not 1/2."""
    masks = np.zeros((2, 2, 2), np.uint8)
    masks[0], masks[1, 0, 0] = 1, 1
    logits = 2.0 * masks - 1
    logits[1] = -1
    assert threshold_scores(total(logits, masks), HALF)["iou"] == pytest.approx(4 / 5)


def test_a_defect_never_predicted_scores_zero():
    """Otherwise a failed segmenter would show as nan and drop out of the averages."""
    scores = threshold_scores(total(np.full((1, 2, 2), -1.0), np.eye(2, dtype=np.uint8)[None]), HALF)
    assert (scores["iou"], scores["acc"]) == (0.0, 0.0)


@pytest.mark.parametrize("score", [lambda found: threshold_scores(found, HALF), pixel_scores, best_level])
def test_masks_without_any_defect_are_refused(score: Callable[[Total], object]):
    """Otherwise metrics of an empty test set would be printed as if they meant something."""
    with pytest.raises(DataError, match="at least one defect pixel"):
        score(total(np.zeros((1, 2, 2)), np.zeros((1, 2, 2), np.uint8)))


@pytest.mark.parametrize("seed", [0, 1])
def test_defect_scores_agree_with_mmsegmentation(seed: int):
    """Otherwise our IoU, Acc and mIoU could not be compared with published ones."""
    pytest.importorskip("mmseg")
    from mmseg.evaluation import IoUMetric

    scores, masks = noisy_scores(seed)
    predicted = (quantised(scores) >= HALF + 70).astype(np.uint8)
    areas = [IoUMetric.intersect_and_union(torch.from_numpy(p), torch.from_numpy(m), 2, 255) for p, m in zip(predicted, masks, strict=True)]
    theirs = IoUMetric.total_area_to_metrics(*(sum(area) for area in zip(*areas, strict=True)))
    ours = threshold_scores(total(scores, masks), HALF + 70)
    assert ours["iou"] == pytest.approx(theirs["IoU"][1])
    assert ours["acc"] == pytest.approx(theirs["Acc"][1])
    assert ours["miou_with_background"] == pytest.approx(np.nanmean(theirs["IoU"]))


@pytest.mark.parametrize("levels", [None, 5])
def test_scores_are_exact_for_the_quantised_logits(levels: int | None):
    """Otherwise metrics from counts would be other numbers than scikit-learn's from all pixels; ties included."""
    logits, masks = noisy_scores(2, levels=levels)
    flat, truth = quantised(logits).ravel(), masks.ravel()
    scores = pixel_scores(total(logits, masks))
    assert scores["auroc"] == pytest.approx(roc_auc_score(truth, flat))
    assert scores["ap"] == pytest.approx(average_precision_score(truth, flat))
    assert scores["f1"] == pytest.approx(max(f1_score(truth, flat >= level) for level in np.unique(flat)))
    assert scores["ap"] == pytest.approx(average_precision_score(truth, logits.ravel()), abs=1e-3)


def test_the_best_threshold_has_the_highest_iou():
    """Otherwise a chosen threshold would be a worse one than another."""
    logits, masks = noisy_scores(4)
    flat, truth, level = quantised(logits).ravel(), masks.ravel(), best_level(total(logits, masks))
    found = threshold_scores(total(logits, masks), level)["iou"]
    assert found == pytest.approx(jaccard_score(truth, flat >= level))
    assert found == pytest.approx(max(jaccard_score(truth, flat >= one) for one in np.unique(flat)))


def test_auroc_and_ap_by_hand():
    """Otherwise threshold-free metrics could have the classes swapped. Ranking: defect, normal, defect, normal."""
    scores = pixel_scores(total(np.array([[[0.9, 0.8], [0.7, 0.1]]]), np.array([[[1, 0], [1, 0]]], np.uint8)))
    assert scores["auroc"] == pytest.approx(3 / 4)  # 3 of the 4 defect-normal pairs are in order
    assert scores["ap"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert scores["f1"] == pytest.approx(4 / 5)


def test_images_may_differ_in_size_and_count_several_times():
    """A bootstrap would need all pixels again, or a data set of several cameras could not be scored."""
    logits, masks = noisy_scores(5)
    counts = Counts.of([(logits[0], masks[0]), (logits[1, :12], masks[1, :12])])
    twice = Counts.of([(logits[0], masks[0])] * 2 + [(logits[1, :12], masks[1, :12])] * 3)
    assert pixel_scores(counts.weighted(np.array([2.0, 3.0]))) == pytest.approx(pixel_scores(twice.total()))
    assert pixel_scores(counts.of_images([0]).total()) == pytest.approx(pixel_scores(total(logits[:1], masks[:1])))


@pytest.mark.parametrize("levels", [None, 7])
def test_pro_agrees_with_its_definition(levels: int | None):
    """Otherwise the fast PRO, sums of counts instead of a pass per threshold, would be another number; ties included."""
    scores, masks = noisy_scores(3, levels=levels)
    assert pro(scores, masks) == pytest.approx(slow_pro(quantised(scores), masks, PRO_LIMIT), abs=1e-6)


def test_pro_of_a_perfect_and_of_a_constant_score_by_hand():
    """Otherwise PRO would not be normalised: 1 when all regions come first, and limit / 2 on the diagonal."""
    _, masks = noisy_scores(0)
    assert pro(masks.astype(float), masks) == pytest.approx(1.0, abs=1e-6)
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


def images(values: list[list[list[float]]]) -> Counts:
    return counted(np.array(values), np.zeros((len(values), 2, 2), np.uint8))


def test_image_scores_take_the_highest_pixel():
    """Otherwise a tiny defect's image would look normal; here one pixel decides, and one of two pairs is in order."""
    defective, good = np.zeros((2, 2, 2)), np.full((1, 2, 2), 0.5)
    defective[0, 0, 0], defective[1, 1, 1] = 0.9, 0.2
    scores = image_scores(images(defective.tolist()), images(good.tolist()))
    assert scores == pytest.approx({"image_auroc": 1 / 2, "image_ap": (1 / 1 + 2 / 3) / 2})


def test_false_alarms_are_counted_on_normal_images():
    """An inspector could not tell how often the line would stop for nothing: one image of two, one pixel of eight."""
    good = images([[[-1, 2], [-1, -1]], [[-1, -1], [-1, -1]]])
    assert false_alarms(good, HALF) == pytest.approx({"false_alarm_images": 1 / 2, "false_alarm_pixels": 1 / 2})


def test_without_good_images_there_are_no_image_scores():
    """Otherwise a data set without normal test images would fail, or show a number that means nothing."""
    some, none = images([[[1, 1], [1, 1]]]), Counts.of([])
    assert (image_scores(some, none), false_alarms(none, HALF)) == ({}, {})


def test_of_equally_good_thresholds_the_one_in_the_middle_is_chosen():
    """A test pixel a little above the training's normal ones would be a false alarm."""
    found = total(np.array([[[-5.0, 5.0]]]), np.array([[[0, 1]]], np.uint8))

    assert abs(best_level(found) - HALF) <= 1


def test_scores_that_find_nothing_say_nothing_about_a_threshold():
    """Every pixel of the test images would be marked."""
    assert best_level(total(np.full((1, 2, 2), -20.0), np.array([[[0, 1], [0, 0]]], np.uint8))) == HALF


def test_without_a_normal_pixel_there_is_no_auroc():
    """A type whose masks cover the image would look like the worst of all."""
    assert "auroc" not in pixel_scores(total(np.ones((1, 2, 2)), np.ones((1, 2, 2), np.uint8)))
