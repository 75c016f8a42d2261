"""Tables II to VII of the paper, from `paper.yaml`, with our results beside its figures."""

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Annotated, NamedTuple

import pandas as pd
from pydantic import TypeAdapter

from stage.core.section import Listed, Section
from stage.core.yaml_files import read_yaml
from stage.segmentation.arms import REAL_ONLY, arm_label, arm_name
from stage.segmentation.results import AVERAGE, Results, rows_where
from stage.segmentation.scores import ALL_TYPES

FIGURES = Path(__file__).with_name("paper.yaml")
PAPERS_AVERAGE = "Average"


class Metric(NamedTuple):
    """A metric's names on the page, in the paper, and in our long table; one of the last two may be empty."""

    label: str
    paper: str
    ours: str


# The paper's networks decide as mmsegmentation does, so its mIoU and Acc stand beside ours at one half.
METRICS: Mapping[str, tuple[Metric, ...]] = {
    "mIoU": (Metric("mIoU", "mIoU", "iou_half"), Metric("IoU at threshold", "", "iou")),
    "Acc": (Metric("Acc", "Acc", "acc_half"),),
    "AUROC": (Metric("AUROC", "AUROC", "auroc"),),
    "PRO": (Metric("PRO", "PRO", "pro"),),
    "F1": (Metric("F1 as the paper has it", "F1", ""), Metric("best F1", "", "f1")),
    "AP": (Metric("AP", "AP", "ap"),),
}


class PaperTable(Section):
    """A table of the paper. `figures`: by segmenter and category, a value of each of `metrics` for each of `methods`."""

    number: str
    data: str
    metrics: tuple[str, ...]
    methods: tuple[str, ...]
    remarks: tuple[str, ...]
    figures: dict[str, dict[str, Annotated[tuple[float, ...], Listed]]]

    def figure(self, segmenter: str, category: str, method: str, metric: str) -> float | None:
        """A single value, None if the table has no such method or metric."""
        if method not in self.methods or metric not in self.metrics:
            return None
        place = self.methods.index(method) * len(self.metrics) + self.metrics.index(metric)
        return self.figures[segmenter][category][place]


class Paper(Section):
    """All tables, and our names by the paper's: segmenters, methods, and the categories whose names differ."""

    segmenters: dict[str, Annotated[tuple[str, ...], Listed]]
    methods: dict[str, str]
    categories: dict[str, str]
    tables: tuple[PaperTable, ...]


class Ours(NamedTuple):
    """Mean and standard deviation over the seeds, and the difference to the real third alone with its interval, as fractions; None: not measured."""

    value: float
    spread: float | None
    seeds: int
    difference: float | None
    low: float | None
    high: float | None


class FigurePair(NamedTuple):
    """A metric in the paper, in percent, and in ours; None: not measured."""

    paper: float | None
    ours: Ours | None


class PaperRow(NamedTuple):
    """A row of a table: a cell for each of its metrics."""

    segmenter: str
    category: str
    method: str
    cells: tuple[FigurePair, ...]

    @property
    def has_ours(self) -> bool:
        """Whether one of its cells was measured here."""
        return any(cell.ours for cell in self.cells)


class Table(NamedTuple):
    """A table with the paper's values and ours; its lines are ordered by `ours_first`."""

    title: str
    remarks: tuple[str, ...]
    metrics: tuple[Metric, ...]
    lines: list[PaperRow]

    @property
    def has_ours(self) -> bool:
        """Whether anything in it was measured here."""
        return any(line.has_ours for line in self.lines)


SegmenterCategory = tuple[str, str]
OurFigures = Mapping[SegmenterCategory, Mapping[str, Mapping[str, Ours]]]  # by arm and metric


def read_paper(path: Path = FIGURES) -> Paper:
    """The figures of the paper."""
    return TypeAdapter(Paper).validate_python(read_yaml(path, "the paper's figures"))


def beside_the_paper(results: Results, paper: Paper) -> list[Table]:
    """A table of what we measured and the paper did not, and every table of the paper with our values; tables without any of ours come last."""
    measured = _measured(results)
    seen: set[SegmenterCategory] = set()
    tables: list[Table] = []
    for table in paper.tables:
        metrics = tuple(metric for name in table.metrics for metric in METRICS[name])
        lines: list[PaperRow] = []
        for theirs, label, ours in _compared(paper, table, measured):
            seen.add(ours)
            arms = measured.get(ours, {})
            for method, arm in _methods(table, paper.methods, arms).items():
                values = arms.get(arm, {})
                cells = (FigurePair(table.figure(*theirs, method, metric.paper), values.get(metric.ours)) for metric in metrics)
                lines.append(PaperRow(label, theirs[1], method, tuple(cells)))
        tables.append(Table(f"Table {table.number}: {table.data}, {', '.join(table.figures)}", table.remarks, metrics, ours_first(lines)))
    rest = {pair: arms for pair, arms in measured.items() if pair not in seen}
    return sorted([_alone(rest), *tables] if rest else tables, key=lambda table: not table.has_ours)


def ours_first(lines: list[PaperRow]) -> list[PaperRow]:
    """The segmenters and categories that we measured before the others, and in each our lines before the paper's.

    Otherwise our few lines would be lost among more than a hundred of the paper's.
    """
    measured = {line[:2] for line in lines if line.has_ours}
    places = {pair: place for place, pair in enumerate(dict.fromkeys(line[:2] for line in lines))}
    return sorted(lines, key=lambda line: (line[:2] not in measured, places[line[:2]], not line.has_ours))


def _measured(results: Results) -> OurFigures:
    keys = ["segmenter", "category", "arm", "metric"]
    shown = rows_where(results.scores, defect=ALL_TYPES, real_per_type=0)
    values = shown.groupby(keys, sort=False).value.agg(["mean", "std", "count"])
    differences = rows_where(results.differences, real_per_type=0).set_index(keys)[["difference", "low", "high"]]
    found: dict[SegmenterCategory, dict[str, dict[str, Ours]]] = {}
    for row in values.join(differences).dropna(subset=["mean"]).reset_index().to_dict("records"):
        spread, *against = (row[name] if pd.notna(row[name]) else None for name in ("std", "difference", "low", "high"))
        arms = found.setdefault((row["segmenter"], row["category"]), {})
        arms.setdefault(row["arm"], {})[row["metric"]] = Ours(row["mean"], spread, int(row["count"]), *against)
    return found


def _compared(paper: Paper, table: PaperTable, measured: OurFigures) -> Iterator[tuple[SegmenterCategory, str, SegmenterCategory]]:
    """Segmenter and category by the table's names, the segmenter's label, and both by our names; "" if we have none."""
    categories = {category for _, category in measured} - {AVERAGE}
    for segmenter, figures in table.figures.items():
        names = {name: paper.categories.get(name, name) for name in figures if name != PAPERS_AVERAGE}
        # Our average is the paper's only if it is of the same categories.
        names[PAPERS_AVERAGE] = AVERAGE if {*names.values()} == categories else ""
        known = paper.segmenters[segmenter]
        for ours in [one for one in known if any(one == model for model, _ in measured)] or [""]:
            label = f"{segmenter}, as {ours}" if ours and len(known) > 1 else segmenter
            yield from (((segmenter, category), label, (ours, names[category])) for category in figures)


def _methods(table: PaperTable, names: Mapping[str, str], arms: Collection[str]) -> dict[str, str]:
    """The arms of a category by label: the real third alone, the paper's methods, and what else was measured."""
    theirs = {method: arm_name(names[method]) for method in table.methods}
    others = {arm_label(arm): arm for arm in arms if arm not in theirs.values()}
    return {label: arm for label, arm in others.items() if arm == REAL_ONLY} | theirs | others


def _alone(measured: OurFigures) -> Table:
    metrics = tuple(metric._replace(paper="") for name in METRICS for metric in METRICS[name] if metric.ours)
    lines = [
        PaperRow(segmenter, category, arm_label(arm), tuple(FigurePair(None, values.get(metric.ours)) for metric in metrics))
        for (segmenter, category), arms in measured.items()
        for arm, values in arms.items()
    ]
    return Table("Not in the paper", ("Segmenters or categories that the paper has no table for.",), metrics, lines)
