"""How sure the difference between two arms is: a bootstrap over test images and seeds, paired, since both arms share them.

A resample of n draws n - 1, each counting n / (n - 1) times (Rao and Wu, JASA 1988): the variance of a plain bootstrap of n is too small by
(n - 1) / n, half of it with two. With a handful, intervals stay somewhat too narrow, because their tails are those of a normal distribution.
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd

from stage.core.arrays import Values
from stage.segmentation.counts import LEVELS, Counts

RESAMPLES = 1000
AT_ONCE = 50  # resamples whose counts are in memory
COMPARED = ("ap", "iou")
Key = TypeVar("Key", bound=Hashable)  # whatever tells arms apart


class EvaluationImage(NamedTuple):
    """The defect type of a test image, and the group whose images show one part."""

    defect: str
    group: str


class AtThreshold(NamedTuple):
    """The counts of a training on the defective test images, and its arm's threshold; None: it has none, and so no IoU."""

    counts: Counts
    level: int | None


def resampled_differences(
    trained: Mapping[Key, Iterable[AtThreshold]],
    compared: Sequence[tuple[Key, Key]],
    test: Sequence[EvaluationImage],
    random: np.random.Generator,
    *,
    seeds: int,
) -> list[pd.DataFrame]:
    """For each pair of `compared`, AP and, if both have a threshold, IoU of the first minus those of the second, as fractions: a row per metric and draw.

    Draw -1 is the difference itself. `trained` gives each arm's trainings, one for each of the `seeds`, in the same order; each is read once, so
    an iterable may be lazy.
    """
    images = np.vstack([np.ones(len(test)), image_weights(test, RESAMPLES, random)])
    is_single = len({image.group for image in test}) < 2
    shares = np.vstack([np.ones(seeds), drawn_weights(seeds, RESAMPLES, random)]) / seeds
    values = {name: _mean_over_seeds(seen, images, shares) for name, seen in trained.items()}
    return [_differences(values[one], values[other], is_single) for one, other in compared]


def _differences(one: Mapping[str, Values], other: Mapping[str, Values], is_single: bool) -> pd.DataFrame:
    """The differences and their resamples. Of a single group they are all that is possible, -1 and 1 in turn: one part says nothing of others."""
    metrics = [metric for metric in COMPARED if metric in one and metric in other]
    found = np.array([one[metric] - other[metric] for metric in metrics])
    if is_single:
        found[:, 1::2], found[:, 2::2] = -1.0, 1.0
    draws = np.tile(np.arange(-1, RESAMPLES), len(metrics))
    return pd.DataFrame({"metric": np.repeat(metrics, 1 + RESAMPLES), "draw": draws, "difference": found.ravel()})


def image_weights(test: Sequence[EvaluationImage], resamples: int, random: np.random.Generator) -> Values:
    """How much each image counts, (resamples, N): groups are drawn, since photographs of one part are not independent.

    A group is drawn with all its images of a type, from those of the type, so that every draw has the type. A type with a single group
    cannot vary, and is drawn together with the other such types, or with the type that has fewest groups (collapsed strata).
    """
    columns: dict[EvaluationImage, list[int]] = {}
    for column, image in enumerate(test):
        columns.setdefault(image, []).append(column)
    weights = np.ones((resamples, len(test)))
    for groups in _strata(columns):
        for group, times in zip(groups, drawn_weights(len(groups), resamples, random).T, strict=True):
            weights[:, group] = times[:, None]
    return weights


def drawn_weights(count: int, resamples: int, random: np.random.Generator) -> Values:
    """How much each of `count` counts in each resample, (resamples, count); one by itself always counts 1."""
    if count < 2:
        return np.ones((resamples, count))
    return np.multiply(random.multinomial(count - 1, np.full(count, 1 / count), resamples), count / (count - 1), dtype=np.float64)


def _strata(columns: Mapping[EvaluationImage, list[int]]) -> list[list[list[int]]]:
    """The columns of each group of images, by what they are drawn from."""
    by_type: dict[str, list[list[int]]] = {}
    for image in sorted(columns):
        by_type.setdefault(image.defect, []).append(columns[image])
    single = [group for groups in by_type.values() if len(groups) == 1 for group in groups]
    strata = [groups for groups in by_type.values() if len(groups) > 1]
    if len(single) == 1 and strata:
        min(strata, key=len).extend(single)
        return strata
    return [*strata, single] if single else strata


def _mean_over_seeds(trained: Iterable[AtThreshold], images: Values, shares: Values) -> dict[str, Values]:
    per_seed = [weighted_metrics(one, images) for one in trained]
    return {
        metric: np.sum([weight * found[metric] for weight, found in zip(shares.T, per_seed, strict=True)], axis=0) for metric in per_seed[0]
    }


def weighted_metrics(trained: AtThreshold, images: Values) -> dict[str, Values]:
    """AP and, at a threshold, IoU, as fractions (R,), under each row of weights of the images (R, N); 0 for images without a defect."""
    pixels = trained.counts.levels[:, :2].reshape(len(trained.counts.levels), -1)
    parts = [
        _of_totals((images[at : at + AT_ONCE].astype(np.float32) @ pixels).astype(np.float64), trained.level)
        for at in range(0, len(images), AT_ONCE)
    ]
    return {metric: np.concatenate([part[metric] for part in parts]) for metric in parts[0]}


def _of_totals(totals: Values, level: int | None) -> dict[str, Values]:
    """AP and IoU of `totals`, defect pixels and normal pixels by level, (R, 2 L)."""
    hits, alarms = (
        np.cumsum(totals[:, part][:, ::-1], axis=1) for part in (slice(0, LEVELS), slice(LEVELS, None))
    )  # from the top level down
    marked, positives = hits + alarms, hits[:, -1:]
    precision = np.divide(hits, marked, out=np.ones_like(marked), where=marked > 0)
    pixels = np.maximum(positives[:, 0], 1)
    ap = (np.diff(hits, axis=1, prepend=0.0) * precision).sum(axis=1) / pixels
    if level is None:
        return {"ap": ap}
    at = LEVELS - 1 - level
    return {"ap": ap, "iou": hits[:, at] / (pixels + alarms[:, at])}
