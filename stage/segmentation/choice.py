"""Which arm to use: chosen on images held out of the real third, so that the test part only confirms it.

The samples of a method that is trained come from a network that has seen the held-out defects too; what it gains there flatters it.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from math import hypot, sqrt
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple, Self

import numpy as np

from stage.core.durable import write_whole
from stage.core.errors import CorruptFileError
from stage.model.base_pointer import TRAINED
from stage.segmentation.arms import PERFECT, REAL_ONLY, Training, arm_label, arm_name, folds_of
from stage.segmentation.bootstrap import AtThreshold, EvaluationImage, resampled_differences
from stage.segmentation.counts import Counts
from stage.segmentation.metrics import HALF
from stage.segmentation.tables import DEFECTIVE_FILE

CHOICE = "choice.json"
ERRORS = 2  # standard errors that a gain must exceed: with one, several arms without effect would be chosen from every third time


class HeldOut(NamedTuple):
    """A fold: its images, and by arm the counts of a segmenter that has not seen it."""

    images: Sequence[EvaluationImage]
    counts: Mapping[str, Counts]


class Gain(NamedTuple):
    """An arm's AP minus that of the real third alone, as a fraction, over held-out images; and its standard error by bootstrap."""

    ap: float
    error: float


class Choice(NamedTuple):
    """The chosen arm, and what every other arm gains over real defects alone."""

    arm: str
    gains: dict[str, Gain]

    @classmethod
    def of(cls, folds: Sequence[HeldOut], random: np.random.Generator) -> Self:
        """The arm with the largest gain, if that is over two standard errors; real defects alone if no gain is."""
        arms = [arm for arm in folds[0].counts if arm not in (REAL_ONLY, arm_name(PERFECT))]
        gains = {arm: _gain(folds, arm, random) for arm in arms}
        better = [arm for arm, gain in gains.items() if gain.ap > ERRORS * gain.error]
        return cls(max(better, key=lambda arm: gains[arm].ap, default=REAL_ONLY), gains)

    @property
    def sentence(self) -> str:
        """What to train on, and why."""
        told = ", ".join(f"{arm_label(arm)} {100 * gain.ap:+.1f} ± {100 * gain.error:.1f}" for arm, gain in self.gains.items())
        told = f"on held-out images of the training part, points of AP against real defects alone, with standard errors: {told or 'no other arm'}"
        seen = any(arm == arm_name(method) for arm in self.gains for method in TRAINED)
        flattered = "; a method that is trained has seen those images, which flatters it" if seen else ""
        told += ", which do not count the chance of a training"
        if self.arm == REAL_ONLY:
            return f"Train on real defects alone: nothing helps by more than two standard errors ({told}{flattered})."
        return f"Train on {arm_label(self.arm)}: it helps most ({told}{flattered})."

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        values = {"arm": self.arm, "gains": {arm: gain._asdict() for arm, gain in self.gains.items()}}
        write_whole(json.dumps(values, indent=2) + "\n", path)

    @classmethod
    def read(cls, path: Path) -> Self | None:
        """What `write` wrote; None if there is no such file, since nothing was held out. Raises CorruptFileError."""
        try:
            values: Any = json.loads(path.read_text(encoding="utf-8"))
            return cls(str(values["arm"]), {str(arm): Gain(**gain) for arm, gain in values["gains"].items()})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise CorruptFileError(f"Expected the chosen arm in {path}, found {error!r}. Run `dvc checkout --force segment`.") from None


def held_out(results: Mapping[Training, Path], real: Sequence[EvaluationImage], count: int) -> list[HeldOut]:
    """The folds of the real third, and what the first network's segmenters made of the one that they had not seen; `results` as in `side_by_side`.

    None where a fold has one group alone: nothing would say how sure a difference is.
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


def choices_of(data: Path, categories: Iterable[str]) -> dict[str, Choice]:
    """The choice of each category that has one."""
    found = {category: Choice.read(data / "segment" / category / CHOICE) for category in categories}
    return {category: choice for category, choice in found.items() if choice}


def _gain(folds: Sequence[HeldOut], arm: str, random: np.random.Generator) -> Gain:
    tables = [_difference(fold, arm, random) for fold in folds]
    groups = [len({image.group for image in fold.images}) for fold in folds]
    errors = [float(np.std(drawn)) * sqrt(count / (count - 1)) for (_, drawn), count in zip(tables, groups, strict=True)]
    return Gain(fmean(difference for difference, _ in tables), hypot(*errors) / len(folds))


def _difference(fold: HeldOut, arm: str, random: np.random.Generator) -> tuple[float, np.ndarray]:
    """The difference in AP, and its resamples."""
    trained = {name: [AtThreshold(fold.counts[name], HALF)] for name in (arm, REAL_ONLY)}
    # Drawn from all types together: a fold may hold one image of a type, which by itself would always be drawn, and look certain.
    images = [image._replace(defect="") for image in fold.images]
    [table] = resampled_differences(trained, [(arm, REAL_ONLY)], images, random)
    ap = table[table.metric == "ap"]
    return float(ap.difference[ap.draw == -1].iloc[0]), ap.difference[ap.draw >= 0].to_numpy()
