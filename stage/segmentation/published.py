"""What `segment` publishes for a category: all its trainings side by side, the chosen arm, curves, weights, predictions, and what was missed."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from stage.core.digests import derived_seed
from stage.core.durable import write_whole
from stage.core.params import Params
from stage.datasets.examples import column, pairs_of
from stage.datasets.found import FILE, FoundDefect, write_found
from stage.datasets.pairs import Pairs
from stage.segmentation.arms import Training
from stage.segmentation.bootstrap import EvaluationImage
from stage.segmentation.choice import CHOICE, Choice, flattered_arms, held_out
from stage.segmentation.misses import shares_found
from stage.segmentation.results import DIFFERENCES, SCORES, TYPES
from stage.segmentation.tables import means_by_arm, side_by_side_table

METRICS, CURVE, PREDICTIONS, ERRORS, WEIGHTS = "metrics.json", "curve.csv", "predictions.parquet", FILE.name, "weights.safetensors"


def write_category(catalog: Path, results: Mapping[Training, Path], samples: Mapping[Training, str], params: Params, output: Path) -> None:
    """Write the tables and files of a prepared category, `data/prepare/<category>`.

    `results`: the folder of each training, with its weights, curve, counts and predictions; `samples`: the digests of what it saw.
    """
    test, real = pairs_of(catalog, "test", good=False), pairs_of(catalog, "train", good=False)
    model = next(iter(results)).model
    tables = side_by_side_table(catalog.name, results, samples, image_parts(test), seed=params.seed)
    tables.scores.to_parquet(output / SCORES, index=False)
    tables.differences.to_parquet(output / DIFFERENCES, index=False)
    tables.types.to_parquet(output / TYPES, index=False)
    write_whole(json.dumps(means_by_arm(tables.scores, model), indent=2) + "\n", output / METRICS)
    _write_shown(test, {one.choice.name: place for one, place in results.items() if one.is_shown and one.model == model}, output)
    if folds := held_out(results, image_parts(real), params.segment.folds):
        random = np.random.default_rng(derived_seed(params.seed, catalog.name))
        Choice.of(folds, random, flattered_arms(params.segment.mixture)).write(output / CHOICE)
    _write_errors(real, results, params, output)


def image_parts(pairs: Pairs) -> list[EvaluationImage]:
    """The defect type and the group of each image."""
    return [EvaluationImage(defect, group) for defect, group in zip(column(pairs, "defect"), column(pairs, "group"), strict=True)]


def _write_errors(real: Pairs, results: Mapping[Training, Path], params: Params, output: Path) -> None:
    """Write how much of each real defect of the training part is found by a training without it; nothing without folds."""
    shares = shares_found(results, column(real, "defect"), column(real, "group"), params.segment.folds)
    if shares:
        rows = zip(*[column(real, name) for name in FoundDefect.model_fields if name != "found"], shares, strict=True)
        write_found([FoundDefect(**dict(zip(FoundDefect.model_fields, row, strict=True))) for row in rows], output / ERRORS)


def _write_shown(test: Pairs, shown: Mapping[str, Path], output: Path) -> None:
    """Write curves, weights and predictions by arm."""
    from stage.segmentation.evaluation import write_predictions  # here, because finished trainings need no networks

    pd.concat([pd.read_csv(place / CURVE).assign(arm=arm) for arm, place in shown.items()]).to_csv(output / CURVE, index=False)
    pictures = {arm: pq.read_table(place / PREDICTIONS)["picture"].to_pylist() for arm, place in shown.items()}
    write_predictions(test, pictures, output / PREDICTIONS)
    for arm, place in shown.items():
        shutil.copy2(place / WEIGHTS, output / f"{arm}.safetensors")
