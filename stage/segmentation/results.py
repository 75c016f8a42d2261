"""The tables of all categories in one place, for people, for `dvc metrics` and for the report.

`scores`: the long table (`scores.COLUMNS`). `differences`: per category, segmenter, real_per_type (0: the whole third), arm, against and
metric the difference to `against` real defects per type alone (0: the whole third), and its 95 % interval, `low` to `high`. Both have rows
of the category AVERAGE. `types`: the differences of each defect type with the whole third. Values are fractions.
"""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import pandas as pd

from stage.core.errors import CorruptFileError, Refusal
from stage.segmentation.arms import REAL_ONLY, arm_name
from stage.segmentation.scores import ALL_TYPES
from stage.segmentation.scores import COLUMNS as SCORE_COLUMNS

AVERAGE = "(average)"  # no category can have such a name
SCORES, DIFFERENCES, TYPES = "scores.parquet", "differences.parquet", "type_differences.parquet"
INTERVAL = (2.5, 97.5)  # percentiles of the resampled differences
COMPARISON = ["segmenter", "real_per_type", "arm", "against", "metric"]
DIFFERENCE_COLUMNS = (*COMPARISON, "draw", "difference")  # as `segment` publishes them
TYPE_COLUMNS = ("segmenter", "arm", "defect", "metric", "difference", "low", "high")  # likewise, of TYPES


class Results(NamedTuple):
    """The long table, and the differences with their intervals: over all types, and of each type with the whole third."""

    scores: pd.DataFrame
    differences: pd.DataFrame
    types: pd.DataFrame = pd.DataFrame(columns=["category", *TYPE_COLUMNS])


def gather_results(data: Path, categories: Sequence[str]) -> Results:
    """What `segment` published of these categories, and its average over them."""
    folders = {name: data / "segment" / name for name in categories}
    scores = pd.concat([read_table(folder / SCORES, SCORE_COLUMNS) for folder in folders.values()], ignore_index=True)
    drawn = [read_table(folder / DIFFERENCES, DIFFERENCE_COLUMNS).assign(category=name) for name, folder in folders.items()]
    shared = set.intersection(*(set(scores.real_per_type[scores.category == name]) for name in categories))
    average = _average(rows_among(scores, shared, "real_per_type"))
    types = [_read_types(folder, TYPE_COLUMNS).assign(category=name) for name, folder in folders.items()]
    return Results(
        pd.concat([scores, average], ignore_index=True),
        _with_intervals(pd.concat(drawn, ignore_index=True), shared),
        pd.concat(types, ignore_index=True).loc[:, ["category", *TYPE_COLUMNS]],
    )


def _average(scores: pd.DataFrame) -> pd.DataFrame:
    """The mean over the categories that have the metric, over all types, per seed."""
    keys = ["segmenter", "arm", "real_per_type", "seed", "defect", "metric"]
    means = scores[scores.defect == ALL_TYPES].groupby(keys, sort=False).value.mean().reset_index()
    return means.assign(category=AVERAGE, samples="")[list(scores.columns)]


def _with_intervals(drawn: pd.DataFrame, shared: Collection[int]) -> pd.DataFrame:
    """Each draw averaged over the categories, whose images were drawn independently, and then the percentiles of the draws.

    Only numbers of real defects per type that all categories share are averaged: a curve over changing categories would say nothing.
    """
    keys = ["category", *COMPARISON]
    means = (
        rows_among(drawn, shared, "real_per_type", "against")
        .groupby([*COMPARISON, "draw"], sort=False)
        .difference.mean()
        .reset_index()
        .assign(category=AVERAGE)
    )
    every = pd.concat([drawn, means], ignore_index=True)
    drawn_of = every[every.draw >= 0].groupby(keys, sort=False).difference
    low, high = (drawn_of.quantile(part / 100) for part in INTERVAL)
    found = every[every.draw == -1].set_index(keys).difference
    return pd.DataFrame({"difference": found, "low": low, "high": high}).loc[found.index].reset_index()


def write_results(results: Results, output: Path) -> None:
    """Write the tables as Parquet and CSV."""
    for table, name in zip(results, (SCORES, DIFFERENCES, TYPES), strict=True):
        table.to_parquet(output / name, index=False)
        table.to_csv((output / name).with_suffix(".csv"), index=False)


def read_results(data: Path) -> Results:
    """What `evaluate` published. Raises Refusal if there is nothing, CorruptFileError on another file of that name."""
    intervals = ("category", *COMPARISON, "difference", "low", "high")
    folder = data / "evaluate"
    return Results(
        read_table(folder / SCORES, SCORE_COLUMNS),
        read_table(folder / DIFFERENCES, intervals),
        _read_types(folder, ("category", *TYPE_COLUMNS)),
    )


def _read_types(folder: Path, columns: Sequence[str]) -> pd.DataFrame:
    """The differences of each type; none where an earlier version published."""
    return read_table(folder / TYPES, columns) if (folder / TYPES).is_file() else pd.DataFrame(columns=list(columns))


def read_table(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    """A published table. Raises Refusal where there is none, CorruptFileError where it cannot be read or lacks one of the columns."""
    if not path.is_file():
        raise Refusal(f"Expected the results of a finished run at {path}, found none. Run `dvc repro`.")
    return table_in(path, str(path), columns, damaged=" Run `dvc checkout --force evaluate segment`.", outdated=" Run `dvc repro`.")


def table_in(file: Path | BinaryIO, what: str, columns: Sequence[str], *, damaged: str = "", outdated: str = "") -> pd.DataFrame:
    """A table of results with these columns. Raises CorruptFileError, which calls the file `what` and ends with what to do in that case."""
    try:
        table = pd.read_parquet(file)
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        raise CorruptFileError(f"Expected a Parquet table in {what}, found {reason}.{damaged}") from None
    if missing := ", ".join(name for name in columns if name not in table):
        raise CorruptFileError(
            f"Expected the columns {', '.join(columns)} in {what}, found none called {missing}: an earlier version wrote it.{outdated}"
        )
    return table


def rows_where(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    """The rows whose columns have these values."""
    for name, value in values.items():
        table = table[table[name] == value]
    return table


def rows_among(table: pd.DataFrame, values: Collection[object], *columns: str) -> pd.DataFrame:
    """The rows that have one of the values in each of the columns."""
    return table[table[list(columns)].isin(list(values)).all(axis=1)]


def mean_over_seeds(scores: pd.DataFrame) -> pd.DataFrame:
    """A row per category, segmenter, real_per_type and arm, over all types; a column per metric."""
    keys = ["category", "segmenter", "real_per_type", "arm"]
    shown = rows_where(scores, defect=ALL_TYPES)
    return shown.pivot_table(index=keys, columns="metric", values="value", sort=False).reset_index()


def headline(results: Results, chosen: Mapping[str, str]) -> dict[str, Any]:
    """AP and IoU of the real third alone and of one other arm, averaged over categories; of the first segmenter.

    That is `chosen`, the arm that the folds of each category chose; or that of the `first` method, unless every category has a choice: to take the
    arm with the highest AP would be to choose on the test part.
    For `dvc metrics`, whose table has a column per value and must not grow with the number of methods; an arm with samples is called by its
    method, to fit 100 columns.
    """
    means = mean_over_seeds(results.scores)
    means = rows_where(means, real_per_type=0, segmenter=means.segmenter.iloc[0])
    categories: list[str] = [name for name in means.category.unique() if name != AVERAGE]
    is_chosen = {*chosen} == {*categories}
    sampled: list[str] = [arm for arm in means.arm.unique() if arm.startswith(arm_name(""))]
    arms = chosen if is_chosen else dict.fromkeys(categories, sampled[0])
    names = {arm.removeprefix(arm_name("")) for arm in arms.values()}
    shown = {"arm": names.pop() if len(names) == 1 else "by category", **_average_of(means, arms)}
    return {REAL_ONLY: _average_of(means, dict.fromkeys(categories, REAL_ONLY)), "chosen" if is_chosen else "first": shown}


def _average_of(means: pd.DataFrame, arms: Mapping[str, str]) -> dict[str, float]:
    """AP and IoU of an arm of each category, the mean over the categories."""
    rows = pd.concat([rows_where(means, category=category, arm=arm) for category, arm in arms.items()])
    return {metric: float(rows[metric].mean()) for metric in ("ap", "iou")}


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
