"""A segmenter's training data: the arms of the comparison, the composition of their batches, the augmentation.

Everything here is a pure function of the seed and the iteration, so that a resumed training sees the same batches.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stage.core.errors import Refusal
from stage.core.params import Segment
from stage.datasets.pairs import Pair

CONTRAST = 0.1  # largest relative change
BRIGHTNESS = 0.1  # largest change, of full scale


class Arm(NamedTuple):
    """One side of the comparison; without synthetic pairs, every defective pair is real."""

    name: str
    real: Sequence[Pair]
    synthetic: Sequence[Pair]
    normal: Sequence[Pair]


REAL_ONLY = "real_only"


def arm_name(method: str) -> str:
    """The name of the arm with the real third and a method's samples."""
    return f"real_and_{method}"


def real_arm(real: Sequence[Pair], normal: Sequence[Pair]) -> Arm:
    """The real third alone, with which every other arm is compared."""
    return Arm(REAL_ONLY, real, [], normal)


def with_samples(name: str, real: Sequence[Pair], synthetic: Sequence[Pair], normal: Sequence[Pair]) -> Arm:
    """The real third and accepted samples. Raises Refusal if there are none, since the arm would equal `real_arm`."""
    if not len(synthetic):
        raise Refusal(
            "Expected accepted samples to compare with real data alone, found none under data/synthesize. "
            "Look at the reasons in its shards; train longer, or lower synthesize.contrast_threshold."
        )
    return Arm(name, real, synthetic, normal)


class BatchCounts(NamedTuple):
    """How many pairs of each kind make up a batch."""

    normal: int
    real: int
    synthetic: int


def composition(arm: Arm, params: Segment) -> BatchCounts:
    """The composition of this arm's batches. Raises Refusal if a kind that is needed has no pairs."""
    normal = round(params.batch * params.normal_share)
    defective = params.batch - normal
    real = round(defective * params.real_share) if len(arm.synthetic) else defective
    counts = BatchCounts(normal, real, defective - real)
    for kind, count in counts._asdict().items():
        if count and not len(getattr(arm, kind)):
            raise Refusal(
                f"Expected {kind} images for arm {arm.name}, which needs {count} in each batch of {params.batch}, found none. "
                "Look at the summary of `prepare`, or change normal_share or real_share under `segment` in params.yaml."
            )
    return counts


def batch_at(arm: Arm, params: Segment, iteration: int, *, seed: int) -> list[Pair]:
    """The augmented pairs of an iteration; normal ones come first and are identical in every arm."""
    kinds = zip((arm.normal, arm.real, arm.synthetic), composition(arm, params), strict=True)
    pairs = [pool[index] for kind, (pool, count) in enumerate(kinds) for index in _draw(len(pool), count, iteration, (seed, kind))]
    return [augment(pair, np.random.default_rng((seed, iteration, slot))) for slot, pair in enumerate(pairs)]


def augment(pair: Pair, rng: np.random.Generator) -> Pair:
    """One of the square's eight symmetries, and a mild change of contrast and brightness over the whole image."""
    turns, flip = int(rng.integers(4)), int(rng.integers(2))
    image, mask = (np.rot90(array, turns)[:, :: 1 - 2 * flip] for array in pair)
    contrast, brightness = rng.uniform(1 - CONTRAST, 1 + CONTRAST), 255 * rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    mean = image.mean()
    toned = np.clip((image - mean) * contrast + mean + brightness, 0, 255)
    return Pair(np.rint(toned).astype(np.uint8), np.ascontiguousarray(mask))


def _draw(size: int, count: int, iteration: int, key: tuple[int, int]) -> list[int]:
    """The `count` indices of a pool for an iteration, shuffled; every index comes once before any comes again."""
    positions = range(iteration * count, (iteration + 1) * count)
    return [int(_shuffled(size, position // size, key)[position % size]) for position in positions]


@lru_cache(maxsize=8)
def _shuffled(size: int, turn: int, key: tuple[int, int]) -> NDArray[np.int64]:
    return np.random.default_rng((*key, turn)).permutation(size)
