"""The paper's tables with ours beside them, as a page, as Markdown, and as CSV with a row per value."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stage.core.durable import write_whole
from stage.report.cards import templates
from stage.report.paper import FigurePair, Metric, Ours, PaperRow, Table, beside_the_paper, read_paper
from stage.segmentation.bootstrap import COMPARED
from stage.segmentation.results import Results
from stage.segmentation.verdicts import with_interval

COLUMNS = ("table", "segmenter", "category", "method", "metric", "paper", *Ours._fields)
NOTES = (
    "Values are in percent. The paper's are as printed. Ours are means over seeds ± their standard deviation; a difference "
    "to the real third alone is in points, with its 95 % interval. An empty cell was not measured. Rows with values of ours come first.",
    "mIoU and Acc are of the defect class where it is the likelier one, as in mmsegmentation; the threshold is chosen on folds of the "
    "real third, and is one half without folds. The paper never trains on the real third alone, and does not say which third it takes, so only differences between our own "
    "rows are measured. Our average stands beside the paper's only where it is of the same categories.",
)


def write_paper_tables(results: Results, output: Path) -> list[Path]:
    """Write `tables.html`, `tables.md` and `tables.csv` to a folder; returns their paths."""
    tables = beside_the_paper(results, read_paper())
    texts = {"html": _html(tables), "md": _markdown(tables), "csv": _csv(tables)}
    for ending, text in texts.items():
        write_whole(text, output / f"tables.{ending}")
    return [output / f"tables.{ending}" for ending in texts]


def heads(table: Table) -> list[str]:
    """The headings of the columns that follow segmenter, category and method."""
    return [head for metric in table.metrics for head, _ in _columns(metric, FigurePair(None, None))]


def texts(table: Table, line: PaperRow) -> list[str]:
    """The cells below the headings, empty where nothing was measured."""
    return [text for metric, cell in zip(table.metrics, line.cells, strict=True) for _, text in _columns(metric, cell)]


def _columns(metric: Metric, cell: FigurePair) -> Iterator[tuple[str, str]]:
    """Heading and text of each column of a metric."""
    paper, ours = cell
    if metric.paper:
        yield f"{metric.label}, paper", "" if paper is None else f"{paper:.2f}"
    if metric.ours:
        yield f"{metric.label}, ours", _mean(ours) if ours else ""
    if metric.ours in COMPARED:
        yield f"{metric.label}, against real only", with_interval(ours) if ours and ours.difference is not None else ""


def _mean(ours: Ours) -> str:
    return f"{100 * ours.value:.1f}" + ("" if ours.spread is None else f" ± {100 * ours.spread:.1f}")


def _html(tables: Sequence[Table]) -> str:
    shown = [(table, heads(table), [(line, texts(table, line)) for line in table.lines]) for table in tables]
    return templates().get_template("tables.html.jinja").render(tables=shown, notes=NOTES)


def _markdown(tables: Sequence[Table]) -> str:
    parts = ["# Beside the paper's tables", *NOTES]
    for table in tables:
        columns = ["Segmenter", "Category", "Method", *heads(table)]
        rows = [columns, ["---"] * 3 + ["--:"] * (len(columns) - 3), *([*line[:3], *texts(table, line)] for line in table.lines)]
        parts += [f"## {table.title}", *table.remarks, "\n".join(map(_markdown_row, rows))]
    return "\n\n".join(parts) + "\n"


def _markdown_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _csv(tables: Sequence[Table]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for table in tables:
        for line in table.lines:
            for metric, cell in zip(table.metrics, line.cells, strict=True):
                if cell != (None, None):
                    writer.writerow([table.title, *line[:3], metric.label, *_values(cell)])
    return text.getvalue()


def _values(cell: FigurePair) -> list[Any]:
    ours = cell.ours or (None,) * len(Ours._fields)
    percent = [value if value is None or name == "seeds" else round(100 * value, 4) for name, value in zip(Ours._fields, ours, strict=True)]
    return [cell.paper, *percent]
