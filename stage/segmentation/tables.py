"""The trainings of a category side by side: the long table of metrics, and the differences between arms."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stage.core.digests import derived_seed
from stage.segmentation.arms import REAL_ONLY, Training
from stage.segmentation.bootstrap import AtThreshold, EvaluationImage, resampled_differences
from stage.segmentation.counts import Counts
from stage.segmentation.metrics import HALF
from stage.segmentation.results import DIFFERENCE_COLUMNS, INTERVAL, TYPE_COLUMNS, rows_where
from stage.segmentation.scores import ALL_TYPES, DEFECTIVE_FILE, GOOD_FILE, Measured, metrics_of, rows_of, threshold_on

ArmKey = tuple[str, int]  # its name, and its real defects per type; 0: the whole third


class Tables(NamedTuple):
    """`scores`: every metric, a row each, with the columns of `scores.COLUMNS`.

    `differences`: AP and IoU of each arm minus those of real defects alone, resampled, with the columns of DIFFERENCE_COLUMNS; of an arm without
    a threshold AP alone. `against` is the
    number of real defects per type of the latter: as many (`real_per_type`) or more. Draw -1 is the difference itself.
    `types`: the same of each defect type alone, with the whole third, and its interval, with the columns of TYPE_COLUMNS.
    """

    scores: pd.DataFrame
    differences: pd.DataFrame
    types: pd.DataFrame


def side_by_side_table(
    category: str, results: Mapping[Training, Path], samples: Mapping[Training, str], test: Sequence[EvaluationImage], *, seed: int
) -> Tables:
    """The tables of a category. `results` are folders with the counts of the defective images `test`, among others, read one by one: those of all trainings are large.

    Each category seeds its resamples by its name, so that they are independent in an average over categories.
    """
    defects, levels = [image.defect for image in test], _thresholds(results)
    measured = [Measured(one, place, samples[one]) for one, place in results.items() if one.fold < 0]
    rows = [row for one in measured for row in rows_of(category, one, levels[one.compared], defects)]
    compared = Compared(measured, levels, test, derived_seed(seed, category))
    return Tables(pd.DataFrame(rows), compared.differences(), compared.type_differences())


def _thresholds(results: Mapping[Training, Path]) -> dict[tuple[str, str, int], int | None]:
    """The level of each network, arm, and number of real defects, from its folds; one half where nothing was held out.

    None with few defects where others have folds: they are too few for folds of their own, and those of the third have defects that the arm must
    not know.
    """
    folds: dict[tuple[str, str, int], list[Path]] = {}
    for one, place in results.items():
        found = folds.setdefault((one.model, one.choice.name, one.choice.few), [])
        if one.fold >= 0:
            found.append(place / DEFECTIVE_FILE)
    is_chosen = any(folds.values())
    return {arm: None if arm[2] and is_chosen else threshold_on(map(Counts.read, files)) for arm, files in folds.items()}


class Compared(NamedTuple):
    """The trainings whose arms are compared, the threshold of each if it has one, the test images, and the seed of the resamples."""

    measured: Sequence[Measured]
    levels: Mapping[tuple[str, str, int], int | None]
    test: Sequence[EvaluationImage]
    seed: int

    @property
    def models(self) -> list[str]:
        """The networks."""
        return list(dict.fromkeys(one.training.model for one in self.measured))

    def differences(self) -> pd.DataFrame:
        """`Tables.differences`."""
        found = [pd.DataFrame(columns=list(DIFFERENCE_COLUMNS))]
        for model in self.models:
            found += [
                table.assign(segmenter=model, arm=arm, real_per_type=few, against=against)
                for ((arm, few), (_, against)), table in self.resampled(model, np.ones(len(self.test), bool), self.seed)
            ]
        return pd.concat([table for table in found if len(table)] or found, ignore_index=True).loc[:, list(DIFFERENCE_COLUMNS)]

    def type_differences(self) -> pd.DataFrame:
        """`Tables.types`: of types with two parts at least, since a single one cannot vary."""
        found: list[tuple[object, ...]] = []
        for model, defect in product(self.models, sorted({image.defect for image in self.test})):
            of_type = np.array([image.defect == defect for image in self.test])
            if len({image.group for image in self.test if image.defect == defect}) < 2:
                continue
            for ((arm, _), _), table in self.resampled(model, of_type, derived_seed(self.seed, defect), whole_third=True):
                for metric, rows in table.groupby("metric", sort=False):
                    difference, *draws = rows.difference
                    found.append((model, arm, defect, metric, difference, *np.percentile(draws, INTERVAL)))
        return pd.DataFrame(found, columns=list(TYPE_COLUMNS))

    def resampled(
        self, model: str, rows: NDArray[np.bool_], seed: int, *, whole_third: bool = False
    ) -> Iterator[tuple[tuple[ArmKey, ArmKey], pd.DataFrame]]:
        """The pairs of a network's arms, or of those with the whole third, and their `resampled_differences` on some of the images."""
        arms: dict[ArmKey, list[Measured]] = {}
        for one in self.measured:
            if one.training.model == model and not (whole_third and one.training.choice.few):
                arms.setdefault(one.compared[1:], []).append(one)
        trained = {arm: self.read(ones, rows) for arm, ones in arms.items()}
        pairs, images = _pairs(list(arms)), [image for image, is_seen in zip(self.test, rows, strict=True) if is_seen]
        drawn = resampled_differences(trained, pairs, images, np.random.default_rng(seed), seeds=len(next(iter(arms.values()))))
        return zip(pairs, drawn, strict=True)

    def read(self, trainings: Sequence[Measured], rows: NDArray[np.bool_]) -> Iterator[AtThreshold]:
        """The counts of some of the images, one training at a time."""
        return (AtThreshold(one.defective().of_images(rows), self.levels[one.compared]) for one in trainings)


def _pairs(trained: Sequence[ArmKey]) -> list[tuple[ArmKey, ArmKey]]:
    """Pairs of arms: each with real defects alone, as many as it has; an arm with few also with more."""
    counts = [few for arm, few in trained if arm == REAL_ONLY]
    return [
        ((arm, few), (REAL_ONLY, count))
        for arm, few in trained
        if arm != REAL_ONLY
        for count in counts
        if count == few or (few and (count > few or not count))
    ]


def mean_metrics(results: Sequence[Path]) -> dict[str, float]:
    """Every metric at a threshold of one half, averaged over folders of counts."""
    found = [metrics_of(Counts.read(place / DEFECTIVE_FILE), Counts.read(place / GOOD_FILE), HALF) for place in results]
    return {name: fmean(one[name] for one in found) for name in found[0]}


def means_by_arm(scores: pd.DataFrame, model: str) -> dict[str, dict[str, Any]]:
    """Each arm's metrics over all types with all of the real third, averaged over seeds, of one network."""
    shown = rows_where(scores, segmenter=model, real_per_type=0, defect=ALL_TYPES)
    found: dict[str, dict[str, Any]] = {}
    for row in shown.groupby(["arm", "metric"], sort=False).value.mean().reset_index().to_dict("records"):
        found.setdefault(row["arm"], {})[row["metric"]] = row["value"]
    return found
