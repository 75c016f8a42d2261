"""The metrics of all categories in one table, for `dvc metrics` and for people."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
from rich.table import Table

from stage.core.errors import Refusal

SHOWN = ("iou", "acc", "auroc", "pro", "f1", "ap")


def gather_metrics(data: Path, categories: Sequence[str], methods: Sequence[str]) -> dict[str, Any]:
    """Every metric of every arm, per category and averaged over those that define it; and each method's sample counts and digests."""
    scores = {category: _read(data / "segment" / category / "metrics.json") for category in categories}
    samples = {category: {method: _counts(data / "synthesize" / category / method) for method in methods} for category in categories}
    return {"average": _average(list(scores.values())), "categories": scores, "samples": samples}


def _counts(samples: Path) -> dict[str, Any]:
    manifest = _read(samples / "manifest.json")
    return {key: manifest[key] for key in ("count", "accepted", "rejected", "digest")}


def _average(scores: Sequence[dict[str, dict[str, float | None]]]) -> dict[str, dict[str, float | None]]:
    names = dict.fromkeys(name for score in scores for values in score.values() for name in values)
    return {arm: {name: _mean([score[arm].get(name) for score in scores]) for name in names} for arm in scores[0]}


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return fmean(defined) if defined else None


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


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
    """The metrics that `evaluate` published. Raises Refusal if there are none."""
    path = data / "evaluate" / "metrics.json"
    if not path.is_file():
        raise Refusal(f"Expected the metrics of a finished run at {path}, found none. Run `dvc repro`.")
    return _read(path)


def results_table(results: dict[str, Any]) -> Table:
    """A row per category and arm: pixel metrics of the defect class, in percent."""
    table = Table("category", "trained on", *SHOWN, title="Real defects never seen, %, defect class")
    for name, arms in [*results["categories"].items(), ("average", results["average"])]:
        for arm, values in arms.items():
            table.add_row(name, arm.replace("_", " "), *("-" if values.get(key) is None else f"{100 * values[key]:.1f}" for key in SHOWN))
    return table
