import numpy as np
import pandas as pd
import pytest

from stage.segmentation.bootstrap import RESAMPLES, AtThreshold, EvaluationImage, drawn_weights, image_weights, resampled_differences
from stage.segmentation.counts import Counts
from stage.segmentation.metrics import HALF, pixel_scores, threshold_scores

DEFECTS = ["dent"] * 8 + ["hole"] * 4
TEST = [EvaluationImage(defect, str(number)) for number, defect in enumerate(DEFECTS)]


def trained(strength: float, seed: int) -> AtThreshold:
    """A segmenter that finds defects the better the higher `strength`."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((len(DEFECTS), 16, 16), np.uint8)
    masks[:, 4:9, 3:11] = 1
    scores = rng.normal(size=masks.shape) + strength * (2.0 * masks - 1)
    return AtThreshold(Counts.of(zip(scores, masks, strict=True)), HALF)


def resampled(arms: dict[str, list[AtThreshold]]) -> pd.DataFrame:
    """The difference of paste to real data alone."""
    (found,) = resampled_differences(arms, [("real_and_paste", "real_only")], TEST, np.random.default_rng(0), seeds=len(arms["real_only"]))
    return found


def mean(arm: list[AtThreshold], metric: str) -> float:
    scored = [pixel_scores(one.counts.total()) | threshold_scores(one.counts.total(), one.level) for one in arm]
    return float(np.mean([one[metric] for one in scored]))


def test_the_difference_is_that_of_the_metrics_themselves():
    """The report's first sentence would give another number than its tables."""
    arms = {"real_only": [trained(0.8, 1), trained(0.9, 2)], "real_and_paste": [trained(1.2, 3), trained(1.3, 4)]}
    found = resampled(arms)

    for metric in ("ap", "iou"):
        told = found[(found.metric == metric) & (found.draw == -1)].difference.item()
        assert told == pytest.approx(mean(arms["real_and_paste"], metric) - mean(arms["real_only"], metric), abs=1e-5)


def test_the_interval_holds_the_difference_and_widens_with_the_scatter_of_seeds():
    """Two lucky seeds would be sold as help."""
    alike = {"real_only": [trained(1.0, seed) for seed in (1, 2, 3)], "real_and_paste": [trained(1.2, seed) for seed in (4, 5, 6)]}
    apart = {"real_only": alike["real_only"], "real_and_paste": [trained(strength, 4) for strength in (0.4, 1.2, 2.0)]}
    widths = []
    for arms in (alike, apart):
        found = resampled(arms)
        draws = found[(found.metric == "ap") & (found.draw >= 0)].difference
        low, high = np.percentile(draws, [2.5, 97.5])
        widths.append(high - low)
        assert low <= found[(found.metric == "ap") & (found.draw == -1)].difference.item() <= high

    assert widths[1] > 3 * widths[0]


def test_an_arm_that_equals_the_baseline_differs_by_nothing():
    """Images or seeds that are not paired would give a difference between equal arms."""
    same = [trained(1.0, 1), trained(1.1, 2)]
    found = resampled({"real_only": same, "real_and_paste": same})

    assert len(found) == 2 * (RESAMPLES + 1)
    assert (found.difference == 0).all()


def test_each_type_keeps_its_number_of_images():
    """A draw without a rare type would compare other questions."""
    weights = image_weights(TEST, 50, np.random.default_rng(0))

    assert weights[:, :8].sum(axis=1) == pytest.approx(8)
    assert weights[:, 8:].sum(axis=1) == pytest.approx(4)


@pytest.mark.parametrize("count", [2, 3, 8])
def test_the_variance_of_a_mean_is_not_too_small(count: int) -> None:
    """With three images a type, one of five equal arms would be called better."""
    values = np.random.default_rng(1).normal(size=count)
    means = drawn_weights(count, 20_000, np.random.default_rng(0)) @ values / count

    assert means.var() == pytest.approx(values.var(ddof=1) / count, rel=0.05)
    assert means.mean() == pytest.approx(values.mean(), abs=0.02)


@pytest.mark.parametrize(
    ("test", "drawn_together"),
    [
        ([*TEST, EvaluationImage("crack", "a")], [8, 9, 10, 11, 12]),  # with the type that has fewest
        ([*TEST, EvaluationImage("crack", "a"), EvaluationImage("pit", "b")], [12, 13]),
    ],
)
def test_a_type_with_a_single_part_varies_too(test: list[EvaluationImage], drawn_together: list[int]) -> None:
    """What is always drawn would look certain."""
    weights = image_weights(test, 50, np.random.default_rng(0))

    assert weights[:, 12].std() > 0
    assert weights[:, drawn_together].sum(axis=1) == pytest.approx(len(drawn_together))


def test_a_single_part_tells_nothing() -> None:
    """Its only difference would be sold as certain, or as sure as the seeds agree."""
    arms = {"real_only": [trained(0.8, seed) for seed in (1, 2, 3)], "real_and_paste": [trained(1.6, seed) for seed in (4, 5, 6)]}
    test = [image._replace(group="a") for image in TEST]
    (found,) = resampled_differences(arms, [("real_and_paste", "real_only")], test, np.random.default_rng(0), seeds=3)
    draws = found[(found.metric == "ap") & (found.draw >= 0)].difference

    assert (*np.percentile(draws, [2.5, 97.5]),) == (-1, 1)
    assert 0 < found[(found.metric == "ap") & (found.draw == -1)].difference.item() < 1


def test_photographs_of_one_part_are_drawn_together():
    """Ten lights of one tile would count as ten tiles, and the interval be a third of what it is."""
    weights = image_weights([EvaluationImage("dent", group) for group in "aaabbb"], 50, np.random.default_rng(0))

    assert (weights[:, :3] == weights[:, :1]).all()
    assert (weights[:, 3:] == 2 - weights[:, :1]).all()
    assert set(weights[:, 0]) == {0, 2}
