"""How similar synthetic defects are to real ones: rows of a table, missed targets, and the terminal's table."""

import math
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

import pandas as pd
from rich.table import Column, Table

from stage.core.wording import apart
from stage.release.fidelity import KID, LEAST, LEAST_REAL, MEDIANS, MOST, REAL, SPREADS
from stage.report.comparison import DASH
from stage.segmentation.results import rows_where

HEADS = {  # the name of every measure: short for the terminal, and long for the page
    "contrast_edge": ("edge", "Contrast at the edge"),
    "contrast_core": ("core", "Contrast in the core"),
    "texture": ("texture", "Texture"),
    "grain": ("grain", "Grain"),
    "spread_colour": ("colour", "Spread of colour"),
    "spread_contrast": ("contrast", "Spread of contrast"),
    "spread_texture": ("texture", "Spread of texture"),
}
MASK_HEADS = {"area": "Area, % of the image", "elongation": "Elongation", "parts": "Parts"}


class MeasureCell(NamedTuple):
    """A value in grey levels of 255 and its ratio to the real defects', both NaN if there is none, and `met`, `missed`, `unknown` or empty."""

    value: float
    ratio: float
    target: str

    @property
    def shown_ratio(self) -> str:
        """The ratio with two decimals, or a dash."""
        return DASH if math.isnan(self.ratio) else f"{self.ratio:.2f}"

    @property
    def shown_value(self) -> str:
        """The value with one decimal, or a dash."""
        return DASH if math.isnan(self.value) else f"{self.value:.1f}"


class MaskCell(NamedTuple):
    """Median and standard deviation of a statistic of masks; the latter NaN for fewer than two."""

    median: float
    spread: float

    @property
    def shown(self) -> str:
        """Both with two decimals, which small areas need, or a dash if there is no mask."""
        if math.isnan(self.median):
            return DASH
        return f"{self.median:.2f}" + ("" if math.isnan(self.spread) else f" ± {self.spread:.2f}")


class FidelityRow(NamedTuple):
    """One type's defects of one origin, real or a method: their number, a cell per measure of HEADS and of MASK_HEADS, and the kernel distance."""

    defect: str
    made_by: str
    examples: int
    cells: Mapping[str, MeasureCell]
    masks: Mapping[str, MaskCell]
    kid: str
    is_judged: bool


def fidelity_rows(table: pd.DataFrame, category: str) -> list[FidelityRow]:
    """The rows of a category: for each type the real defects, then each method's."""
    own = rows_where(table, category=category)
    real = {row["defect"]: int(row["count"]) for row in rows_where(own, made_by=REAL, measure=KID).to_dict("records")}
    return [
        FidelityRow(
            defect=kid["defect"],
            made_by=kid["made_by"],
            examples=int(kid["count"]),
            cells=_cells(rows_where(own, defect=kid["defect"], made_by=kid["made_by"])),
            masks=_mask_cells(rows_where(own, defect=kid["defect"], made_by=kid["made_by"])),
            kid=_shown_kid(kid),
            is_judged=real[kid["defect"]] >= LEAST_REAL,
        )
        for kid in rows_where(own, measure=KID).to_dict("records")
    ]


def fidelity_verdicts(rows: list[FidelityRow]) -> list[str]:
    """For each method a sentence on the types of a category that miss a target, and by how much; and sentences on types that cannot be judged."""
    told: list[str] = []
    for method in dict.fromkeys(row.made_by for row in rows if row.made_by != REAL):
        judged = [row for row in rows if row.made_by == method and row.is_judged and row.examples]
        misses = [f"{row.defect}: {'; '.join(found)}" for row in judged if (found := _misses(row))]
        met = len(judged) - len(misses)
        if misses:
            told.append(f"Samples of {method} miss targets on {len(misses)} of {len(judged)} types. {'. '.join(misses)}.")
        elif met:
            told.append(f"Samples of {method} miss no target, on {met} type{'s' * (met > 1)}.")
        if none := [row.defect for row in rows if row.made_by == method and not row.examples]:
            told.append(f"Of {method} there are no accepted samples of {', '.join(none)}.")
    if few := [row.defect for row in rows if row.made_by == REAL and not row.is_judged]:
        told.append(f"Not judged, with fewer than {LEAST_REAL} real examples: {', '.join(few)}.")
    return told


def fidelity_table(category: str, rows: list[FidelityRow]) -> Table:
    """A table within 100 columns: real defects as values, samples as ratios to them."""
    heads = [Column(short if name in MEDIANS else f"±{short}", justify="right", no_wrap=True) for name, (short, _) in HEADS.items()]
    table = Table(
        Column("type", overflow="fold"),
        Column("by", overflow="fold"),
        Column("n", justify="right"),
        *heads,
        Column("KID", no_wrap=True),
        title=f"Fidelity, {category}",
        padding=(0, 0),
        collapse_padding=True,
    )
    for row in rows:
        is_real = row.made_by == REAL
        cells = [cell.shown_value if is_real else cell.shown_ratio + "!" * (cell.target == "missed") for cell in row.cells.values()]
        table.add_row(row.defect if is_real else "", row.made_by, str(row.examples), *cells, row.kid)
    return table


def mask_table(category: str, rows: list[FidelityRow]) -> Table:
    """The masks of real defects and of samples, as medians and standard deviations."""
    heads = [Column(head, justify="right", no_wrap=True) for head in MASK_HEADS.values()]
    table = Table("type", "by", Column("n", justify="right"), *heads, title=f"Masks, {category}", caption="median ± spread over examples")
    for row in rows:
        name = row.defect if row.made_by == REAL else ""
        table.add_row(name, row.made_by, str(row.examples), *(cell.shown for cell in row.masks.values()))
    return table


def legend() -> str:
    """What the terminal's tables show."""
    return (
        "n: examples. Contrast to the surroundings: edge, within 2 px of the mask's border; core, deeper. Texture: deviation inside. Grain: what "
        "differs from pixel to pixel. ±: spread of colour, contrast and texture over the examples. Real defects in grey levels of 255, samples as ratios to real; ! misses its "
        f"target: {targets()}, of types with {LEAST_REAL} real examples or more. KID: distance to real defects in a network's features; in the "
        "row real, between two halves of them, which is chance alone. docs/method.md, Fidelity, defines all."
    )


def targets() -> str:
    """The targets in words."""
    spread = LEAST[next(iter(SPREADS))]
    return f"contrast at least {LEAST['contrast_edge']:g}, every spread at least {spread:g} and grain at most {MOST['grain']:g} times real"


def _cells(rows: pd.DataFrame) -> dict[str, MeasureCell]:
    found = {row["measure"]: row for row in rows.to_dict("records")}
    return {name: MeasureCell(found[name]["value"], found[name]["ratio"], found[name]["target"]) for name in HEADS}


def _mask_cells(rows: pd.DataFrame) -> dict[str, MaskCell]:
    found = {row["measure"]: 100 * row["value"] if row["measure"].endswith("area") else row["value"] for row in rows.to_dict("records")}
    return {name: MaskCell(found[name], found[f"spread_{name}"]) for name in MASK_HEADS}


def _misses(row: FidelityRow) -> list[str]:
    limits = {**LEAST, **MOST}
    return [
        f"{HEADS[name][1].lower()} {apart(cell.ratio, limits[name], 2)[0]} of real (at {'least' if name in LEAST else 'most'} {limits[name]:g})"
        for name, cell in row.cells.items()
        if cell.target == "missed"
    ]


def _shown_kid(row: Mapping[Hashable, Any]) -> str:
    if math.isnan(row["value"]):
        return DASH
    error = "" if math.isnan(row["error"]) else f" ± {row['error']:.2f}"
    return f"{row['value']:z.2f}{error}".replace("-", "−")
