"""Which pairs make up each batch of an arm, and which crops of them. Pure functions of the seed and the iteration."""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stage.core.segment_params import Segment
from stage.datasets.pairs import Pair
from stage.segmentation.arms import Arm
from stage.segmentation.augmentation import crop_of


class BatchCounts(NamedTuple):
    """How many pairs of each kind make up a batch; a merged arm draws `merged` pairs from real and synthetic ones together."""

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


def batch_at(arm: Arm, params: Segment, iteration: int, *, seed: int) -> list[Pair]:
    """The augmented crops of an iteration, all (crop, crop); normal ones come first and are identical in every arm of the same augmentation."""
    counts = composition(arm, params, iteration)
    pools = (arm.normal, arm.real, arm.synthetic, Merged(arm.real, arm.synthetic))
    slots = [
        (kind, pool[index])
        for kind, (pool, count) in enumerate(zip(pools, counts, strict=True))
        for index in _draw(len(pool), count, iteration, (seed, kind))
    ]
    # Each kind and slot has its own generator: a real pair's crop does not depend on the number of synthetic pairs.
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
