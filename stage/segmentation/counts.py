"""How often each score occurs, image by image: all that pixel metrics need, in a memory that does not grow with the image size.

A score is the difference of a pixel's two logits, defect minus normal, quantised to LEVELS steps between -RANGE and RANGE.
Metrics of the counts are exact for the quantised scores. Shapes: N images, L = LEVELS.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

LEVELS = 4096
RANGE = 12.0  # a probability of 6e-6 from either end

Scores = NDArray[np.floating]
Masks = NDArray[np.uint8]


def quantised(logits: Scores) -> NDArray[np.int64]:
    """The levels, 0 to LEVELS - 1, of differences of logits."""
    steps = (np.asarray(logits, np.float64) + RANGE) * ((LEVELS - 1) / (2 * RANGE))
    return np.clip(np.rint(steps), 0, LEVELS - 1).astype(np.int64)


def probability_of(level: float) -> float:
    """The defect probability at a level."""
    return float(1 / (1 + np.exp(RANGE - level * (2 * RANGE) / (LEVELS - 1))))


class Counts(NamedTuple):
    """Per image and level: pixels of defects and normal pixels, (N, L) int64, and the found share of each defect region, (N, L) float64.

    `found` sums, over the image's 8-connected regions, the share of the region that has this score; `regions` (N,) counts them.
    """

    defect: NDArray[np.int64]
    normal: NDArray[np.int64]
    found: NDArray[np.float64]
    regions: NDArray[np.int64]

    @classmethod
    def of(cls, predictions: Iterable[tuple[Scores, Masks]]) -> Self:
        """Count each image's difference of logits (H, W) against its mask (H, W) in {0, 1}; images may differ in size."""
        rows = [_of_image(quantised(logits), mask) for logits, mask in predictions]
        if not rows:
            return cls(*(np.zeros((0, LEVELS), kind) for kind in (np.int64, np.int64, np.float64)), np.zeros(0, np.int64))
        return cls(*(np.stack(column) for column in zip(*rows, strict=True)))

    def __add__(self, other: "Counts") -> "Counts":  # type: ignore[override]  # not the concatenation of two tuples
        """The images of both."""
        return Counts(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))

    def weighted(self, weights: NDArray[np.floating]) -> "Total":
        """The sum over images, each counted `weights` (N,) times."""
        return Total(weights @ self.defect, weights @ self.normal, weights @ self.found, float(weights @ self.regions))

    def total(self) -> "Total":
        """The sum over images."""
        return self.weighted(np.ones(len(self.regions)))

    def of_images(self, rows: Sequence[int] | NDArray[np.bool_]) -> "Counts":
        """Some of the images."""
        return Counts(*(column[rows] for column in self))


class Total(NamedTuple):
    """Counts summed over images, (L,) each, and the number of defect regions."""

    defect: NDArray[np.float64]
    normal: NDArray[np.float64]
    found: NDArray[np.float64]
    regions: float

    def at_least(self) -> "Total":
        """At index t, what has level t or a higher one: what a threshold of t marks as defect."""
        return Total(*(np.cumsum(column[::-1])[::-1] for column in self[:3]), self.regions)


def _of_image(levels: NDArray[np.int64], mask: Masks) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], np.int64]:
    is_defect = mask > 0
    regions: NDArray[np.intp] = np.asarray(label(is_defect, connectivity=2))
    areas = np.bincount(regions.ravel())
    found = np.bincount(levels[is_defect], weights=1.0 / areas[regions[is_defect]], minlength=LEVELS)
    defect, normal = (np.bincount(levels[where], minlength=LEVELS) for where in (is_defect, ~is_defect))
    return defect, normal, found, np.int64(len(areas) - 1)
