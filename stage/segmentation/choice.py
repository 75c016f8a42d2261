"""Which arm to use: chosen on images held out of the real third, so that the test part only confirms it.

A trained method's samples come from a network that has also seen the held-out defects, which flatters its gain.
"""

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from math import hypot
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from stage.core.durable import write_whole
from stage.core.errors import CorruptFileError
from stage.datasets.examples import CATALOG
from stage.datasets.rules import GOOD
from stage.datasets.table import read_catalog, training_part
from stage.model.base_pointer import TRAINED
from stage.segmentation.arms import MIXTURE, PERFECT, REAL_ONLY, Training, arm_label, arm_name, folds_of, only_name
from stage.segmentation.bootstrap import RESAMPLES, AtThreshold, EvaluationImage, image_weights, weighted_metrics
from stage.segmentation.counts import Counts
from stage.segmentation.metrics import HALF
from stage.segmentation.scores import DEFECTIVE_FILE

CHOICE = "choice.json"
ERRORS = 2  # standard errors that a gain must exceed: with one, several arms without effect would be chosen from every third time


class HeldOut(NamedTuple):
    """A fold: its images, and by arm the counts of a segmenter that has not seen it."""

    images: Sequence[EvaluationImage]
    counts: Mapping[str, Counts]


class Gain(NamedTuple):
    """An arm's AP minus that of the real third alone, as a fraction, over held-out images, the mean of the types; and its standard error.

    Every type counts alike: over all pixels together, a few large defects would decide, and hide what the others gain.
    """

    ap: float
    error: float

    @property
    def is_certain(self) -> bool:
        """Whether it exceeds two standard errors."""
        return self.ap > ERRORS * self.error


def flattered_arms(mixture: Iterable[str]) -> set[str]:
    """The arms with samples of trained networks, which have seen the held-out images; `mixture`: the methods of the mixture."""
    methods = [*TRAINED, *([MIXTURE] if {*mixture} & {*TRAINED} else [])]
    return {name(method) for method in methods for name in (arm_name, only_name)}


class Choice(NamedTuple):
    """The chosen arm, what every other arm gains over real defects alone, and which of these a trained network flatters."""

    arm: str
    gains: dict[str, Gain]
    flattered: list[str]

    @classmethod
    def of(cls, folds: Sequence[HeldOut], random: np.random.Generator, flattered: Container[str]) -> Self:
        """The choice by what each arm gains on held-out images."""
        return cls.among(_gains(folds, random), flattered)

    @classmethod
    def among(cls, gains: dict[str, Gain], flattered: Container[str]) -> Self:
        """The arm with the largest gain, if that is over two standard errors; real defects alone if no gain is.

        Instead of a flattered arm, another within its standard error is taken, by itself certain or not (docs/decisions/0023).
        """
        best = max(filter(lambda arm: gains[arm].is_certain, gains), key=lambda arm: gains[arm].ap, default=REAL_ONLY)
        if best in flattered:
            near = [arm for arm in gains if arm not in flattered and gains[arm].ap >= gains[best].ap - gains[best].error]
            best = max(near, key=lambda arm: gains[arm].ap, default=best)
        return cls(best, gains, [arm for arm in gains if arm in flattered])

    @property
    def advice(self) -> str:
        """What to train on, why, and the gains, in sentences."""
        told = ", ".join(f"{arm_label(arm)} {100 * gain.ap:+.1f} ± {100 * gain.error:.1f}" for arm, gain in self.gains.items())
        measured = (
            f" Gains on held-out images of the training part, in points of AP over real defects alone (mean of the defect types ± standard error, "
            f"which leaves out the chance of a training): {told or 'no other arm'}."
        )
        flattered = " A trained method has seen those images, which flatters it." if self.flattered else ""
        arm = "real defects alone" if self.arm == REAL_ONLY else arm_label(self.arm)
        return f"Train on {arm}: {self._reason}.{measured}{flattered}"

    @property
    def _reason(self) -> str:
        if self.arm == REAL_ONLY:
            return "nothing gains more than two standard errors"
        above = [gain for gain in self.gains.values() if gain.ap > self.gains[self.arm].ap]
        if any(gain.is_certain for gain in above):
            return "a trained method gains more, but less than a standard error more"
        if above:
            return "it gains most of what gains more than two standard errors"
        if self.gains[self.arm].is_certain:
            return "it gains most"
        return "it gains most, if not by two standard errors, and a trained method gains more than two"

    def write(self, path: Path) -> None:
        """Write the choice as JSON."""
        values = {"arm": self.arm, "gains": {arm: gain._asdict() for arm, gain in self.gains.items()}, "flattered": self.flattered}
        write_whole(json.dumps(values, indent=2) + "\n", path)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """What `write` wrote; None if there is no such file, since nothing was held out. Raises CorruptFileError."""
        try:
            values: Any = json.loads(path.read_text(encoding="utf-8"))
            gains = {str(arm): Gain(**gain) for arm, gain in values["gains"].items()}
            flattered = values.get("flattered", [])  # earlier versions wrote none
            return cls(str(values["arm"]), gains, [str(arm) for arm in flattered])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise CorruptFileError(f"Expected the chosen arm in {path}, found {error!r}. Run `dvc checkout --force segment`.") from None


def held_out(results: Mapping[Training, Path], real: Sequence[EvaluationImage], count: int) -> list[HeldOut]:
    """The folds of the real third, each with the counts of the first network's segmenters that had not seen it; `results` as in `tables`.

    Empty if a fold has only one group: nothing would say how sure a difference is.
    """
    numbers = sorted({one.fold for one in results if one.fold >= 0})
    fold_of = folds_of([image.defect for image in real], [image.group for image in real], max(count, 1))
    first = next(iter(results)).model
    found = [
        HeldOut(
            [image for image, fold in zip(real, fold_of, strict=True) if fold == number],
            {
                one.choice.name: Counts.read(place / DEFECTIVE_FILE)
                for one, place in results.items()
                if (one.model, one.fold) == (first, number)
            },
        )
        for number in numbers
    ]
    return found if all(len({image.group for image in fold.images}) > 1 for fold in found) else []


def parts_to_hold_out(data: Path, categories: Iterable[str]) -> dict[str, int]:
    """The groups of real defects in the training part of each prepared category: `held_out` needs two of them in every fold."""
    catalogs = {category: data / "prepare" / category / CATALOG for category in categories}
    training = {category: training_part(read_catalog(file)) for category, file in catalogs.items() if file.is_file()}
    return {category: int(rows.group[rows.defect != GOOD].nunique()) for category, rows in training.items()}


def read_choices(data: Path, categories: Iterable[str]) -> dict[str, Choice]:
    """The choice of each category that has one."""
    found = {category: Choice.read(data / "segment" / category / CHOICE) for category in categories}
    return {category: choice for category, choice in found.items() if choice}


def resampled_aps(fold: HeldOut, random: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """The AP of every arm on a fold, the mean of the types, and its resamples by bootstrap over the fold's groups, (1 + RESAMPLES,)."""
    # Drawn from all types together: the only image of a type in a fold would otherwise be in every draw, and look certain.
    images = [image._replace(defect="") for image in fold.images]
    weights = np.vstack([np.ones(len(images)), image_weights(images, RESAMPLES, random)])
    return {arm: _mean_over_types(counts, fold.images, weights) for arm, counts in fold.counts.items()}


def _gains(folds: Sequence[HeldOut], random: np.random.Generator) -> dict[str, Gain]:
    """What each arm gains over real defects alone: the mean over the folds."""
    drawn = [resampled_aps(fold, random) for fold in folds]
    arms = [arm for arm in folds[0].counts if arm not in (REAL_ONLY, arm_name(PERFECT))]
    return {arm: _gain([aps[arm] - aps[REAL_ONLY] for aps in drawn]) for arm in arms}


def _gain(differences: Sequence[NDArray[np.float64]]) -> Gain:
    errors = [float(np.std(drawn)) for _, *drawn in differences]
    return Gain(fmean(float(one[0]) for one in differences), hypot(*errors) / len(errors))


def _mean_over_types(counts: Counts, images: Sequence[EvaluationImage], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean AP of the types that were drawn, for each row of weights, (R,)."""
    found: list[NDArray[np.float64]] = []
    for defect in sorted({image.defect for image in images}):
        rows = np.array([image.defect == defect for image in images])
        ap = weighted_metrics(AtThreshold(counts.of_images(rows), HALF), weights[:, rows])["ap"]
        found.append(np.where(weights[:, rows].any(axis=1), ap, np.nan))
    return np.nanmean(found, axis=0)
