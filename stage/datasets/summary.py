"""What `prepare` has read, for people: counts per defect type, the share of the images that is defect, and what to look at."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from stage.core.data_params import FolderRule
from stage.core.section import SUMMARY_FILES
from stage.core.wording import counted, first_of, printable
from stage.datasets.entries import Entry
from stage.datasets.groups import Groups
from stage.datasets.matching import LOOK
from stage.datasets.rules import GOOD
from stage.datasets.walking import shown

COUNTS = ("accepted", "train", "test", "set_aside", "groups", "noted")
SHARE = "defect_percent"
PLAUSIBLE = (0.001, 40.0)  # % of an image; the median defect of a type outside of this is worth a look
SHOWN = 3
NUMBER = re.compile(r"\d+(\.\d+)?")


class Summary(NamedTuple):
    """`table` has a row of counts per category and defect type, and the median percentage of an image that is defect; `warnings` are sentences."""

    table: pd.DataFrame
    warnings: list[str]


def summarise(entries: Sequence[Entry], warnings: Sequence[str] = ()) -> Summary:
    """The summary of all categories; the given `warnings` come first."""
    table = pd.DataFrame(
        {
            "category": [entry.category for entry in entries],
            "defect": [entry.defect for entry in entries],
            "accepted": [not entry.reason for entry in entries],
            "train": [entry.split == "train" and not entry.reason for entry in entries],
            "test": [entry.split == "test" and not entry.reason for entry in entries],
            "set_aside": [bool(entry.reason) for entry in entries],
            "groups": [None if entry.reason else entry.group for entry in entries],
            "noted": [bool(entry.note) and not entry.reason for entry in entries],
            SHARE: [_percent(entry) for entry in entries],
        }
    )
    how = {**{name: "nunique" if name == "groups" else "sum" for name in COUNTS}, SHARE: "median"}
    table = table.groupby(["category", "defect"]).agg(how).astype(dict.fromkeys(COUNTS, int)).round({SHARE: 3}).reset_index()
    notes = _notes(entries)
    doubts = [note for note in notes if LOOK in note]
    return Summary(table, [*warnings, *doubts, *_implausible(table), *_reasons(entries), *(note for note in notes if note not in doubts)])


def trained_types(table: pd.DataFrame) -> dict[str, list[str]]:
    """The defect types of each category of a summary's table that have images in the generator's third."""
    chosen = table[(table["train"] > 0) & (table["defect"] != GOOD)]
    return {str(category): sorted(rows["defect"]) for category, rows in chosen.groupby("category")}


def _percent(entry: Entry) -> float | None:
    if entry.reason or entry.defect == GOOD or not entry.width or not entry.height:
        return None
    return 100 * (entry.defect_area or 0) / (entry.width * entry.height)


def _implausible(table: pd.DataFrame) -> list[str]:
    low, high = PLAUSIBLE
    rows = [row for row in table.to_dict("records") if row[SHARE] < low or row[SHARE] > high]
    return [
        f"{row['category']}, {row['defect']}: the median mask marks {row[SHARE]:g} % of its image as defect. Look whether the masks mean that."
        for row in rows
    ]


def without_numbers(text: str) -> str:
    """The text with `…` for each number, so that texts that differ only in numbers count as one."""
    return NUMBER.sub("…", text)


def _notes(entries: Sequence[Entry]) -> list[str]:
    """A sentence per kind of note, with `…` for numbers that differ between files."""
    found: dict[tuple[str, str, str], Counter[str]] = {}
    for entry in entries:
        for note in () if entry.reason else _parts(entry.note):
            found.setdefault((entry.category, entry.defect or "-", without_numbers(note)), Counter())[note] += 1
    told = sorted(found.items(), key=lambda item: -item[1].total())
    return [
        f"{category}, {defect}: {notes.total()} x {note if len(notes) > 1 else next(iter(notes))}"
        for (category, defect, note), notes in told
    ]


def _reasons(entries: Sequence[Entry]) -> list[str]:
    found = Counter((entry.category, entry.defect or "-", entry.reason) for entry in entries if entry.reason)
    return [f"{category}, {defect}: {count} set aside: {reason}" for (category, defect, reason), count in found.most_common()]


def _parts(note: str) -> list[str]:
    return note.split("; ") if note else []


def unmatched_rows(groups: Groups, rule: FolderRule, category: str) -> list[str]:
    """Sentences on the lines of the groups file that name no file, and on inexact lines with the image that they were read as."""
    file = rule.groups.replace("{category}", category)
    slips = [f"{name!r} as {shown(image)}" for name, image in sorted(groups.slips.items())]
    return [
        f"{category}: {counted(len(names), 'line')} of {file} {what}: {first_of(names, SHOWN)}."
        for names, what in (
            (groups.unmatched, "naming no file, without effect"),
            (slips, "naming no image exactly, read by likeness"),
        )
        if names
    ]


def write_summary(entries: Sequence[Entry], summary: Summary, output: Path) -> None:
    """Write `summary.json` and `set_aside.csv`."""
    columns = ["category", "path", "reason", "detail"]
    rows = [[getattr(entry, name) for name in columns] for entry in entries if entry.reason]
    aside = pd.DataFrame(rows, columns=columns)
    summary_file, aside_file = (output / name for name in SUMMARY_FILES)
    aside.to_csv(aside_file, index=False, lineterminator="\n")
    summary_file.write_text(json.dumps(_nested(summary.table), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _nested(table: pd.DataFrame) -> dict[str, dict[str, dict[str, int | float | None]]]:
    nested: dict[str, dict[str, dict[str, int | float | None]]] = {}
    for row in table.to_dict("records"):
        share = None if pd.isna(row[SHARE]) else row[SHARE]
        nested.setdefault(row["category"], {})[row["defect"] or "-"] = {**{name: row[name] for name in COUNTS}, SHARE: share}
    return nested


def summary_table(table: pd.DataFrame) -> Table:
    """The summary as a table for a terminal of 80 columns; `-` stands for files that no rule names. A single category stands in the title."""
    categories = list(dict.fromkeys(table["category"]))
    texts = ["category", "defect"] if len(categories) > 1 else ["defect"]
    shown = Table(
        title=f"Images read{f' of {escape(categories[0])}' if len(categories) == 1 else ''}", box=SIMPLE_HEAD, padding=(0, 1, 0, 0)
    )
    for name in texts:
        shown.add_column(name, overflow="fold")
    for name in [*COUNTS, "% defect"]:
        shown.add_column(name.replace("_", " "), justify="right", no_wrap=True)
    for row in table.to_dict("records"):
        share = "" if pd.isna(row[SHARE]) else f"{row[SHARE]:.2f}"
        shown.add_row(*(escape(printable(row[name]) or "-") for name in texts), *(str(row[name]) for name in COUNTS), share)
    return shown
