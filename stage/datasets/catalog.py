"""The catalog of each category: one row per image file found, accepted or set aside, with its prepared pixels."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.table import Table

from stage.core.data_params import FolderRule, Prepare
from stage.core.errors import DataError
from stage.core.progress import track
from stage.datasets.entries import Entry, read_entry
from stage.datasets.folder import find
from stage.datasets.foreground import whole
from stage.datasets.groups import read_groups
from stage.datasets.layouts import data_root, rule_of
from stage.datasets.pairs import write_table
from stage.datasets.rules import GOOD
from stage.datasets.split import divide
from stage.datasets.table import FEATURES

COUNTS = ("accepted", "train", "test", "set_aside", "groups", "noted")


def prepare(params: Prepare, categories: Sequence[str], root: Path, output: Path) -> pd.DataFrame:
    """Read the categories in `root`; write `<category>/catalog.parquet`, `summary.json` and `set_aside.csv` to `output`.

    Returns the summary: a row of counts per category and defect type. The same files give the same bytes.
    Raises ConfigError for an invalid naming rule, and DataError for a category that cannot be used.
    """
    rule = rule_of(params, categories)
    entries = [entry for category in categories for entry in _prepare_category(params, rule, category, root, output)]
    summary = _summarise(entries)
    aside = pd.DataFrame(
        [(entry.category, entry.path, entry.reason) for entry in entries if entry.reason], columns=["category", "path", "reason"]
    )
    aside.to_csv(output / "set_aside.csv", index=False, lineterminator="\n")
    (output / "summary.json").write_text(json.dumps(_nested(summary), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return summary


def _prepare_category(params: Prepare, rule: FolderRule, category: str, root: Path, output: Path) -> list[Entry]:
    home = data_root(root, params.layout, category)
    found = find(home, category, rule, with_foregrounds=params.foreground.strategy == "files")
    groups = read_groups(home, rule.groups.replace("{category}", category), [each.image for each in found if each.image])
    progress = track(found, total=len(found), label=f"prepare {category}")
    read = [read_entry(each, home, params, category=category, group=groups.get(each.path, each.path)) for each in progress]
    entries = _agreed(divide(read), params.image_size)
    _check_usable(entries, category, home)
    rows = ({name: getattr(entry, name) for name in FEATURES} for entry in entries)
    write_table(rows, FEATURES, output / category / "catalog.parquet")
    return entries


def _agreed(entries: list[Entry], size: int) -> list[Entry]:
    """Use whole images if the threshold found an object in fewer than half of them: what it found is the light or grain of a texture."""
    strategies = [entry.foreground_strategy for entry in entries if entry.foreground_strategy]
    found = strategies.count("threshold")
    if 2 * found >= len(strategies):
        return entries
    outline = whole((size, size), f"{found} of {len(strategies)} images show an object, so it is taken for a texture")
    return [entry.with_foreground(outline) if entry.foreground_strategy == "threshold" else entry for entry in entries]


def _check_usable(entries: list[Entry], category: str, root: Path) -> None:
    trained = [entry.defect for entry in entries if entry.split == "train"]
    missing = "normal training image" if GOOD not in trained else "defect type with three usable images" if {*trained} == {GOOD} else ""
    if not missing:
        return
    reasons = Counter(entry.reason for entry in entries if entry.reason).most_common(5)
    told = "".join(f"\n  {count} x {reason}" for reason, count in reasons) or "\n  none"
    types = sorted({entry.defect for entry in entries if entry.defect not in ("", GOOD)})
    raise DataError(
        f"Expected at least one {missing} of category {category} in {root}, found none among {len(entries)} files "
        f"(defect types: {', '.join(types) or 'none'}). Set aside were:{told}\nAdd or mend images there, or correct prepare in params.yaml."
    )


def _summarise(entries: list[Entry]) -> pd.DataFrame:
    table = pd.DataFrame(
        {
            "category": [entry.category for entry in entries],
            "defect": [entry.defect for entry in entries],
            "accepted": [not entry.reason for entry in entries],
            "train": [entry.split == "train" for entry in entries],
            "test": [entry.split == "test" for entry in entries],
            "set_aside": [bool(entry.reason) for entry in entries],
            "groups": [None if entry.reason else entry.group for entry in entries],
            "noted": [bool(entry.note) and not entry.reason for entry in entries],
        }
    )
    how = {name: "nunique" if name == "groups" else "sum" for name in COUNTS}
    return table.groupby(["category", "defect"]).agg(how).astype(int).reset_index()


def _nested(summary: pd.DataFrame) -> dict[str, dict[str, dict[str, int]]]:
    nested: dict[str, dict[str, dict[str, int]]] = {}
    for row in summary.to_dict("records"):
        nested.setdefault(row["category"], {})[row["defect"] or "-"] = {name: row[name] for name in COUNTS}
    return nested


def trained_types(summary: pd.DataFrame) -> dict[str, list[str]]:
    """The defect types of each category of a summary that have images in the generator's third."""
    chosen = summary[(summary["train"] > 0) & (summary["defect"] != GOOD)]
    return {str(category): sorted(rows["defect"]) for category, rows in chosen.groupby("category")}


def summary_table(summary: pd.DataFrame) -> Table:
    """The summary of `prepare` as a table for the terminal; `-` stands for files that no rule names."""
    table = Table(title="Images read")
    for name in ("category", "defect"):
        table.add_column(name, overflow="fold")
    for name in COUNTS:
        table.add_column(name.replace("_", " "), justify="right")
    for row in summary.to_dict("records"):
        table.add_row(row["category"], row["defect"] or "-", *(str(row[name]) for name in COUNTS))
    return table
