"""A segmenter's training data: the arms of the comparison, and which pairs make up each batch.

Everything here is a pure function of the seed and the iteration, so that a resumed training sees the same batches.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stage.core.errors import Refusal
from stage.core.segment_params import Segment
from stage.datasets.pairs import Pair
from stage.segmentation.augmentation import Augmentation, crop_of

REAL_ONLY = "real_only"


class ArmChoice(NamedTuple):
    """What an arm is trained on: the real third or not, the samples of a method or none, and how crops are augmented."""

    name: str
    method: str = ""
    is_real: bool = True
    augmentation: Augmentation = "mild"


class Arm(NamedTuple):
    """One side of the comparison: its pairs of each kind, and how their crops are augmented."""

    name: str
    normal: Sequence[Pair]
    real: Sequence[Pair] = ()
    synthetic: Sequence[Pair] = ()
    augmentation: Augmentation = "mild"


def arm_name(method: str) -> str:
    """The arm that sees the real third and the samples of a method."""
    return f"real_and_{method}"


def arm_choices(methods: Sequence[str], more: Sequence[str]) -> list[ArmChoice]:
    """The real third alone, and with the samples of each method; of `more`, the real third under strong augmentation, and samples alone."""
    choices = [ArmChoice(REAL_ONLY)]
    if "real_augmented" in more:
        choices.append(ArmChoice("real_augmented", augmentation="strong"))
    choices += [ArmChoice(arm_name(method), method) for method in methods]
    if "synthetic_only" in more:
        choices += [ArmChoice(f"only_{method}", method, is_real=False) for method in methods]
    return choices


class BatchCounts(NamedTuple):
    """How many pairs of each kind make up a batch; of a merged arm, `merged` pairs are drawn from real and synthetic ones alike."""

    normal: int
    real: int = 0
    synthetic: int = 0
    merged: int = 0


def composition(arm: Arm, params: Segment, iteration: int) -> BatchCounts:
    """The composition of an arm's batch.

    Every arm has the same normal images and every arm with real defects the same number of those; synthetic pairs come on top.
    In an arm without real defects synthetic pairs take their place, as they do in the first `warmup` of an arm with both.
    """
    real, synthetic = params.batch - params.normal, params.synthetic
    if not len(arm.synthetic):
        return BatchCounts(params.normal, real)
    if not len(arm.real) or iteration < params.warmup * params.iterations:
        return BatchCounts(params.normal, synthetic=real)
    if synthetic == "merged":
        return BatchCounts(params.normal, merged=real)
    return BatchCounts(params.normal, real, synthetic)


def make_arm(choice: ArmChoice, normal: Sequence[Pair], real: Sequence[Pair], synthetic: Sequence[Pair]) -> Arm:
    """The pairs of an arm. Raises Refusal if it lacks a kind that it needs: without its samples it would be another arm."""
    if not len(normal) or (choice.is_real and not len(real)):
        kind = "real defects" if len(normal) else "normal images"
        raise Refusal(f"Expected {kind} for arm {choice.name}, found none. Look at the summary of `prepare`.")
    if choice.method and not len(synthetic):
        raise Refusal(
            f"Expected accepted samples of {choice.method} for arm {choice.name}, found none under data/synthesize. "
            "Look at the reasons in their shards; train longer, or lower synthesize.contrast_threshold."
        )
    return Arm(choice.name, normal, real if choice.is_real else (), synthetic, choice.augmentation)


def batch_at(arm: Arm, params: Segment, iteration: int, *, seed: int) -> list[Pair]:
    """The augmented crops of an iteration, all (crop, crop); normal ones come first and are identical in every arm."""
    counts = composition(arm, params, iteration)
    pools = (arm.normal, arm.real, arm.synthetic, Merged(arm.real, arm.synthetic))
    slots = [
        (kind, pool[index])
        for kind, (pool, count) in enumerate(zip(pools, counts, strict=True))
        for index in _draw(len(pool), count, iteration, (seed, kind))
    ]
    # Generators by kind and slot within it: a real pair's crop does not depend on how many synthetic ones come along.
    return [
        crop_of(pair, params, arm.augmentation, np.random.default_rng((seed, iteration, kind, slot)))
        for slot, (kind, pair) in enumerate(slots)
    ]


class Merged(Sequence[Pair]):
    """Two sequences, one after the other."""

    def __init__(self, first: Sequence[Pair], second: Sequence[Pair]) -> None:
        """Nothing is copied."""
        self.first, self.second = first, second

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, index: int) -> Pair:  # pyright: ignore[reportIncompatibleMethodOverride]  # nobody takes slices
        return self.first[index] if index < len(self.first) else self.second[index - len(self.first)]


def _draw(size: int, count: int, iteration: int, key: tuple[int, int]) -> list[int]:
    """The `count` indices of a pool for an iteration, shuffled; every index comes once before any comes again."""
    positions = range(iteration * count, (iteration + 1) * count)
    return [int(_shuffled(size, position // size, key)[position % size]) for position in positions]


@lru_cache(maxsize=8)
def _shuffled(size: int, turn: int, key: tuple[int, int]) -> NDArray[np.int64]:
    return np.random.default_rng((*key, turn)).permutation(size)
