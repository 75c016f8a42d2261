"""How often each score occurs, image by image: all that pixel metrics need, in memory that does not grow with the image size.

A score is the difference of a pixel's two logits, defect minus normal, quantised to LEVELS steps between -RANGE and RANGE.
Metrics of the counts are exact for the quantised scores. Shapes: N images, L = LEVELS.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from skimage.measure import label

from stage.core.errors import CorruptFileError

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
    """Per image and level, `levels` (N, 3, L) float32: pixels of defects, normal pixels, and the found share of the defect regions.

    That share is summed over the image's 8-connected regions, whose number is `regions` (N,).
    """

    levels: NDArray[np.float32]
    regions: NDArray[np.float64]

    @classmethod
    def of(cls, predictions: Iterable[tuple[Scores, Masks]]) -> Self:
        """Count each image's difference of logits (H, W) against its mask (H, W) in {0, 1}; images may differ in size."""
        counted = [_of_image(quantised(logits), mask) for logits, mask in predictions]
        if not counted:
            return cls(np.zeros((0, 3, LEVELS), np.float32), np.zeros(0))
        return cls(np.stack([levels for levels, _ in counted]), np.array([regions for _, regions in counted], np.float64))

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` wrote. Raises CorruptFileError."""
        try:
            with np.load(path, allow_pickle=False) as file:
                return cls(file["levels"], file["regions"])
        except (OSError, ValueError, KeyError, BadZipFile) as error:
            raise CorruptFileError(f"Expected counts of scores in {path}, found {error}. Remove that file and run `dvc repro`.") from None

    def write(self, path: Path) -> None:
        """Write an .npz file, compressed: most levels of an image are empty."""
        np.savez_compressed(path, levels=self.levels, regions=self.regions)

    @property
    def defect(self) -> NDArray[np.float32]:
        """Pixels of defects, (N, L)."""
        return self.levels[:, 0]

    @property
    def normal(self) -> NDArray[np.float32]:
        """Normal pixels, (N, L)."""
        return self.levels[:, 1]

    def weighted(self, weights: NDArray[np.float64]) -> "Total":
        """The sum over images, each counted `weights` (N,) times."""
        defect, normal, found = np.tensordot(weights, self.levels, 1)
        return Total(defect, normal, found, float(weights @ self.regions))

    def total(self) -> "Total":
        """The sum over images."""
        return self.weighted(np.ones(len(self.regions)))

    def of_images(self, rows: Sequence[int] | NDArray[np.bool_]) -> "Counts":
        """Some of the images."""
        return Counts(self.levels[rows], self.regions[rows])


class Total(NamedTuple):
    """Counts summed over images, (L,) each, and the number of defect regions."""

    defect: NDArray[np.float64]
    normal: NDArray[np.float64]
    found: NDArray[np.float64]
    regions: float

    def at_least(self) -> "Total":
        """At index t, the counts of level t and higher: what a threshold of t marks as defect."""
        defect, normal, found = (np.cumsum(column[::-1])[::-1] for column in (self.defect, self.normal, self.found))
        return Total(defect, normal, found, self.regions)


def summed(totals: Iterable[Total]) -> Total:
    """The sum over the images of all; zero without any."""
    sums, regions = np.zeros((3, LEVELS)), 0.0
    for one in totals:
        sums += (one.defect, one.normal, one.found)
        regions += one.regions
    defect, normal, found = sums
    return Total(defect, normal, found, regions)


def _of_image(levels: NDArray[np.int64], mask: Masks) -> tuple[NDArray[np.float32], int]:
    is_defect = mask > 0
    regions: NDArray[np.intp] = np.asarray(label(is_defect, connectivity=2))
    areas = np.bincount(regions.ravel())
    found = np.bincount(levels[is_defect], weights=1.0 / areas[regions[is_defect]], minlength=LEVELS)
    defect, normal = (np.bincount(levels[where], minlength=LEVELS) for where in (is_defect, ~is_defect))
    return np.stack([defect, normal, found]).astype(np.float32), len(areas) - 1
