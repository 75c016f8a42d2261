"""The images of a training: its arm, and what its segmenter is scored on."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np

from stage.core.digests import derived_seed
from stage.core.errors import Refusal
from stage.core.params import Params
from stage.datasets.demo.dataset import perfect_pairs
from stage.datasets.examples import column, pairs_of
from stage.datasets.pairs import Pair, Pairs
from stage.segmentation.arms import PERFECT, Arm, Training, few_of, folds_of, make_arm

PERFECT_COUNT = 48  # freshly drawn pairs of each type


class TrainingData(NamedTuple):
    """An arm, and the defective and good images that its segmenter is scored on: the test part, or the fold that it did not see."""

    arm: Arm
    defective: Sequence[Pair]
    good: Sequence[Pair]


class Reader(Protocol):
    """Reads accepted samples: all, or those made only from these `sources`, SHA-256 of real photographs and masks."""

    def __call__(self, *, sources: Collection[str] | None) -> Sequence[Pair]:
        """The pairs, in the order of the shards."""
        ...


def training_data(catalog: Path, training: Training, read_samples: Reader | None, params: Params) -> TrainingData:
    """The pairs of a training; `catalog` is the category's folder under data/prepare.

    A training sees samples made from a real defect's pixels or mask only if it sees that defect; if no sample is left, a training without
    a fold or with few defects sees the real ones alone.
    """
    real, normal = (pairs_of(catalog, "train", good=good) for good in (False, True))
    seen, held_out = _divided(real, training, params)
    chosen = real.rows(seen)
    sources = {*column(chosen, "image_sha256"), *column(chosen, "mask_sha256")} if len(seen) < len(real) else None
    synthetic: Sequence[Pair] = read_samples(sources=sources) if read_samples else ()
    if training.choice.method == PERFECT:
        synthetic = _perfect(column(real, "category")[0], params)
    choice = training.choice
    if len(seen) < len(real) and not len(synthetic):  # no sample was made only from what it sees
        choice = choice._replace(method="", is_real=True)
    arm = make_arm(choice, normal, chosen, synthetic)
    if training.fold >= 0:
        return TrainingData(arm, real.rows(held_out), ())
    return TrainingData(arm, *(pairs_of(catalog, "test", good=good) for good in (False, True)))


def _divided(real: Pairs, training: Training, params: Params) -> tuple[list[int], list[int]]:
    """The indices of the real defects that a training sees, and of those that it does not."""
    defects = column(real, "defect")
    seen = list(range(len(real)))
    if training.fold >= 0:
        folds = folds_of(defects, column(real, "group"), params.segment.folds)
        seen = [index for index, fold in enumerate(folds) if fold != training.fold]
    elif training.choice.few:
        seen = few_of(defects, training.choice.few, np.random.default_rng(derived_seed(params.seed, training.seed)))
    return seen, sorted({*range(len(real))} - {*seen})


def _perfect(category: str, params: Params) -> Sequence[Pair]:
    """The best possible samples for drawn data: defects drawn like the test's, from a seed of their own."""
    if params.prepare.layout != "demo":
        raise Refusal("Expected drawn data for arm perfect, found photographs. Take `perfect` out of segment.arms.")
    return perfect_pairs(category, PERFECT_COUNT, params.prepare.image_size, seed=params.seed)
