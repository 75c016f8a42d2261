"""The tables of all categories in one place, for people, for `dvc metrics` and for the report.

`scores`: the long table (`scores.COLUMNS`). `differences`: per category, segmenter, real_per_type (0: the whole third), arm and metric the difference to the
real third alone and its 95 % interval, `low` to `high`. Both have rows of the category AVERAGE. Values are fractions.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import pandas as pd

from stage.core.errors import CorruptFileError, Refusal
from stage.segmentation.arms import REAL_ONLY
from stage.segmentation.scores import ALL_TYPES

AVERAGE = "(average)"  # no category can have such a name
SCORES, DIFFERENCES = "scores.parquet", "differences.parquet"
INTERVAL = (2.5, 97.5)  # percentiles of the resampled differences
COMPARISON = ["segmenter", "real_per_type", "arm", "metric"]


class Results(NamedTuple):
    """The long table, and the differences with their intervals."""

    scores: pd.DataFrame
    differences: pd.DataFrame


def gather_results(data: Path, categories: Sequence[str]) -> Results:
    """What `segment` published of these categories, and its average over them."""
    scores = pd.concat([read_table(data / "segment" / name / SCORES) for name in categories], ignore_index=True)
    drawn = pd.concat([read_table(data / "segment" / name / DIFFERENCES).assign(category=name) for name in categories], ignore_index=True)
    return Results(pd.concat([scores, _average(scores)], ignore_index=True), _with_intervals(drawn, categories))


def _average(scores: pd.DataFrame) -> pd.DataFrame:
    """The mean over the categories that have the metric, of all types together, per seed."""
    keys = ["segmenter", "arm", "real_per_type", "seed", "defect", "metric"]
    means = scores[scores.defect == ALL_TYPES].groupby(keys, sort=False).value.mean().reset_index()
    return means.assign(category=AVERAGE, samples="")[list(scores.columns)]


def _with_intervals(drawn: pd.DataFrame, categories: Sequence[str]) -> pd.DataFrame:
    """Draw by draw averaged over the categories, whose images were drawn independently, and then the percentiles of the draws."""
    keys = ["category", *COMPARISON]
    means = drawn.groupby([*COMPARISON, "draw"], sort=False).difference.mean().reset_index().assign(category=AVERAGE)
    every = pd.concat([drawn, means], ignore_index=True)
    drawn_of = every[every.draw >= 0].groupby(keys, sort=False).difference
    low, high = (drawn_of.quantile(part / 100) for part in INTERVAL)
    found = every[every.draw == -1].set_index(keys).difference
    return pd.DataFrame({"difference": found, "low": low, "high": high}).loc[found.index].reset_index()


def write_results(results: Results, output: Path) -> None:
    """Write both tables as Parquet and CSV."""
    for table, name in ((results.scores, SCORES), (results.differences, DIFFERENCES)):
        table.to_parquet(output / name, index=False)
        table.to_csv((output / name).with_suffix(".csv"), index=False)


def read_results(data: Path) -> Results:
    """What `evaluate` published. Raises Refusal if there is nothing, CorruptFileError on another file of that name."""
    return Results(*(read_table(data / "evaluate" / name) for name in (SCORES, DIFFERENCES)))


def read_table(path: Path) -> pd.DataFrame:
    """A published table. Raises Refusal where there is none, CorruptFileError where it cannot be read."""
    if not path.is_file():
        raise Refusal(f"Expected the results of a finished run at {path}, found none. Run `dvc repro`.")
    try:
        return pd.read_parquet(path)
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise CorruptFileError(
            f"Expected a Parquet table in {path}, found {reason}. Run `dvc checkout --force evaluate segment`."
        ) from None


def rows_where(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The rows whose columns have these values."""
    for name, value in values.items():
        table = cast("pd.DataFrame", table[table[name] == value])
    return table


def mean_over_seeds(scores: pd.DataFrame) -> pd.DataFrame:
    """A row per category, segmenter, real_per_type and arm, over all types; a column per metric."""
    keys = ["category", "segmenter", "real_per_type", "arm"]
    shown = rows_where(scores, defect=ALL_TYPES)
    return shown.pivot_table(index=keys, columns="metric", values="value", sort=False).reset_index()


def headline(results: Results) -> dict[str, Any]:
    """AP and IoU of the real third alone and of the arm with the highest AP, averaged over categories; of the first segmenter.

    For `dvc metrics`, whose table has a column per value, so that it grows with no number of methods.
    """
    means = mean_over_seeds(results.scores)
    means = rows_where(means, category=AVERAGE, real_per_type=0, segmenter=means.segmenter.iloc[0]).set_index("arm")
    best = str(means.ap.drop([arm for arm in means.index if arm.endswith("perfect")]).idxmax())
    shown = {"real_only": REAL_ONLY, "best": best}
    return {"best_arm": best, **{name: {metric: float(means.loc[arm, metric]) for metric in ("ap", "iou")} for name, arm in shown.items()}}


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
