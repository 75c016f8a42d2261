"""Answers as tables that fit a terminal. Names come from data, so they are never taken for markup or control characters."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from stage.cli.terminal import console
from stage.core.wording import counted, printable

SHOWN = 20  # rows of a table, unless all are asked for
UPRIGHT, WIDE = 4, 12  # columns; a single row with more, or any row with more, is shown one value a line
PADDING = (0, 1, 0, 0)  # with the box, two blanks between columns
SHARED = ("version", "method", "category", "role")  # shown once above a table if all of its rows share the value
DIGEST = re.compile(r"[0-9a-f]{32,64}")
Row = Mapping[str, Any]


def print_answer(answer: Mapping[str, Sequence[Row]], *, whole: bool = False) -> None:
    """Print each table of an answer under its title; with `whole` all rows, otherwise the first and how many more there are.

    A table called `every_...` is for machines: only its number of rows is printed.
    """
    terminal = console()
    for title, rows in answer.items():
        name = title.replace("_", " ")
        if not rows or name.startswith("every "):
            terminal.print(f"{name}: {counted(len(rows), 'row') + ', which --json has' if rows else 'none'}", style="dim")
            continue
        shown = rows if whole else rows[:SHOWN]
        is_upright = len(rows[0]) > WIDE or (len(rows) == 1 and len(rows[0]) > UPRIGHT)
        for table in [_upright(name, row) for row in shown] if is_upright else [_flat(name, shown)]:
            terminal.print(table)
        if len(shown) < len(rows):
            terminal.print(f"... and {len(rows) - len(shown)} more; --json has all", style="dim")


def _flat(title: str, rows: Sequence[Row]) -> Table:
    """A table with a line per row, without columns that are empty or shown in the title."""
    shared = {name: _text(rows[0][name]) for name in SHARED if name in rows[0] and len({_text(row[name]) for row in rows}) == 1}
    told = ", ".join(value for value in shared.values() if value)
    names = [name for name in rows[0] if (name not in shared or len(rows[0]) == 1) and any(_text(row[name]) for row in rows)]
    table = Table(
        title=f"{title}: {told}" if told and names else title, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=PADDING
    )
    for name in names or list(rows[0]):
        is_number = all(isinstance(row[name], int | float | None) for row in rows)
        words = name.replace("_", " ")
        table.add_column(
            words, justify="right" if is_number else "left", overflow="fold", min_width=max(map(len, words.split()), default=1)
        )
    for row in rows:
        table.add_row(*(_text(row[name]) for name in names or row))
    return table


def _upright(title: str, row: Row) -> Table:
    """A table with a line per value."""
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=SIMPLE_HEAD, padding=PADDING)
    table.add_column("name")
    table.add_column("value", overflow="fold")
    for name, value in row.items():
        if text := _text(value):
            table.add_row(name.replace("_", " "), text)
    return table


def _text(value: Any) -> str:
    """A value as text; a digest is cut to its beginning, which `lineage down` accepts."""
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    if DIGEST.fullmatch(text):
        return f"{text[:12]}…"
    return printable(text)
