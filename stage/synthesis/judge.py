"""The measure of a category's samples: how far a defect is from nothing (normal texture), how much of its label looks normal, and what it copies.

H, W image size, n defects of an image, F features, T defect types, N training defects. `calibration.calibrate` makes the measure.
"""

from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from stage.core.arrays import Values
from stage.core.durable import whole_file
from stage.datasets.pairs import Pair
from stage.synthesis.copies import nearest, patch
from stage.synthesis.rows import TypeRecord

FAR = 6.0  # standard deviations of nothing; beyond, the signed features say no more
OUTLYING = 2.0  # weight of the features' distances beside the features themselves
PLACES = 3  # decimals of scores


class Discriminant(NamedTuple):
    """A linear function of standardised features (F,) and of their distances from nothing: high for defects, low for normal texture."""

    mean: Values  # (F,), of nothing
    deviation: Values  # (F,), likewise
    weights: Values  # (2 F,)
    offset: float

    def scores(self, features: Values) -> Values:
        """The scores (n,) of descriptions (n, F)."""
        return standardised(features, self.mean, self.deviation) @ self.weights + self.offset


class Judgement(NamedTuple):
    """What the measure says of a sample: a margin per defect, (n,); the share of its label that looks normal; and what it resembles."""

    margins: Values
    looks_normal: float
    nearest_sha256: str
    nearest_distance: float


class Judge(NamedTuple):
    """The measure of a category. `patches` (N, E, E, 3) are its training defects, `sha256` their photographs."""

    discriminant: Discriminant
    records: tuple[TypeRecord, ...]
    patches: NDArray[np.float32]
    sha256: tuple[str, ...]

    def looks(self, sample: Pair, background: NDArray[np.uint8], defect: str) -> Judgement:
        """The judgement of a sample (H, W) of a defect type; a margin is the score above the threshold that nothing sets."""
        from stage.synthesis.appearance import described  # here, because it imports torch, which a job that is only looked at does not need

        record = next(record for record in self.records if record.defect == defect)
        scores = self.discriminant.scores(described(sample.image, background, sample.mask))
        found = nearest(patch(sample.image, sample.mask), self.patches)
        share = normal_share(sample, background, record.normal_difference)
        return Judgement(np.round(scores - record.threshold, PLACES), share, self.sha256[found.number], found.distance)

    def write(self, path: Path) -> None:
        """Write the measure as a whole file of arrays."""
        arrays = {name: np.asarray(value) for name, value in self.discriminant._asdict().items()}
        columns = {f"type_{name}": np.array([getattr(one, name) for one in self.records]) for name in TypeRecord._fields}
        with whole_file(path) as partial, partial.open("wb") as file:
            np.savez(file, allow_pickle=False, patches=self.patches, sha256=np.array(self.sha256), **arrays, **columns)

    @classmethod
    def read(cls, path: Path) -> Self:
        """The measure that `write` wrote; nothing in the file is executed."""
        with np.load(path, allow_pickle=False) as held:
            discriminant = Discriminant(held["mean"], held["deviation"], held["weights"], float(held["offset"]))
            columns = zip(*(held[f"type_{name}"].tolist() for name in TypeRecord._fields), strict=True)
            return cls(discriminant, tuple(TypeRecord(*row) for row in columns), held["patches"], tuple(held["sha256"].tolist()))


def standardised(features: Values, mean: Values, deviation: Values) -> Values:
    """Features (n, F) in deviations from nothing, and the logarithms of their distances from it, (n, 2 F).

    The signed half knows what real defects look like; the other finds whatever is unlike nothing, in any direction.
    """
    z = (features - mean) / deviation
    return np.concatenate([np.clip(z, -FAR, FAR), OUTLYING * np.log1p(np.abs(z))], axis=1)


def difference_sums(sample: Pair, background: NDArray[np.uint8]) -> NDArray[np.int64]:
    """For each labelled pixel, the sum over the channels of its absolute differences to the background, 0 to 765."""
    inside = sample.mask > 0
    return np.abs(sample.image[inside].astype(np.int64) - background[inside]).sum(axis=1)


def normal_share(sample: Pair, background: NDArray[np.uint8], level: float) -> float:
    """The share of the labelled pixels whose mean difference to the background is at most `level`, to four decimals; 0 for an empty mask."""
    sums = difference_sums(sample, background)
    return round(float((sums <= round(3 * level)).mean()), 4) if len(sums) else 0.0
