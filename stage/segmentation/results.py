"""The metrics of all categories in one table, for `dvc metrics` and for people."""

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
from pydantic import BaseModel
from rich.table import Table

from stage.core.errors import CorruptFileError
from stage.core.json_files import read_json
from stage.segmentation.arms import REAL_ONLY, arm_name

METRICS, MEND = "metrics by arm", "dvc repro segment"
Metrics = dict[str, dict[str, float | None]]  # by arm and metric, as fractions
SHOWN = ("iou", "acc", "auroc", "pro", "f1", "ap")


class Counts(BaseModel):
    """What the results say of a method's samples; a manifest has more."""

    count: int
    accepted: int
    rejected: int
    digest: str


class Results(BaseModel):
    """What `gather_metrics` gives."""

    average: Metrics
    categories: dict[str, Metrics]
    samples: dict[str, dict[str, Counts]]


def gather_metrics(data: Path, categories: Sequence[str], methods: Sequence[str]) -> dict[str, Any]:
    """Every metric of every arm, per category and averaged over those that define it; and each method's sample counts and digests."""
    arms = [REAL_ONLY, *map(arm_name, methods)]
    scores = {category: read_metrics(data / "segment" / category / "metrics.json", arms) for category in categories}
    samples = {category: {method: _counts(data / "synthesize" / category / method) for method in methods} for category in categories}
    return {"average": _average(list(scores.values())), "categories": scores, "samples": samples}


def _counts(samples: Path) -> dict[str, Any]:
    manifest = read_json(samples / "manifest.json", Counts, what="counts and digest of samples", mend="dvc repro synthesize")
    return {key: manifest[key] for key in Counts.model_fields}


def _average(scores: Sequence[dict[str, dict[str, float | None]]]) -> dict[str, dict[str, float | None]]:
    names = dict.fromkeys(name for score in scores for values in score.values() for name in values)
    return {arm: {name: _mean([score[arm].get(name) for score in scores]) for name in names} for arm in scores[0]}


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return fmean(defined) if defined else None


def read_metrics(path: Path, arms: Sequence[str]) -> dict[str, Any]:
    """A category's metrics by arm, of which these must be there. Raises CorruptFileError."""
    scores = read_json(path, Metrics, what=METRICS, mend=MEND)
    if missing := [arm for arm in arms if arm not in scores]:
        raise CorruptFileError(f"Expected the arms {', '.join(arms)} in {path}, found none called {', '.join(missing)}. Run `{MEND}`.")
    return scores


def write_loss_curves(data: Path, categories: Sequence[str], output: Path) -> None:
    """Write the loss of every training as a file of iteration and loss, the form that `dvc plots` overlays."""
    output.mkdir(parents=True, exist_ok=True)
    curves = {"pretrain": data / "pretrain" / "curve.csv"} | {f"train-{name}": data / "train" / name / "curve.csv" for name in categories}
    tables = {name: pd.read_csv(path) for name, path in curves.items() if path.exists()}
    for category in categories:
        arms = pd.read_csv(data / "segment" / category / "curve.csv").groupby("arm")
        tables |= {f"segment-{category}-{arm}": table for arm, table in arms}
    for name, table in tables.items():
        table[["iteration", "loss"]].to_csv(output / f"{name}.csv", index=False)


def read_results(data: Path) -> dict[str, Any]:
    """The metrics that `evaluate` published. Raises CorruptFileError if there are none, or something else."""
    return read_json(data / "evaluate" / "metrics.json", Results, what="the metrics of a finished run", mend="dvc repro")


def results_table(results: dict[str, Any]) -> Table:
    """A row per category and arm: pixel metrics of the defect class, in percent."""
    table = Table("category", "trained on", *SHOWN, title="Real defects never seen, %, defect class")
    for name, arms in [*results["categories"].items(), ("average", results["average"])]:
        for arm, values in arms.items():
            table.add_row(name, arm.replace("_", " "), *("-" if values.get(key) is None else f"{100 * values[key]:.1f}" for key in SHOWN))
    return table
