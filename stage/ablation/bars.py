"""The bars of Fig. 6: a group per category, a bar per configuration, the real third alone as a line across the group."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke

from stage.ablation.results import METRICS, REAL_ONLY_ROW, Group, table_rows
from stage.report.charts import GREY, STYLE

COLOURS = ("#7b6bd6", "#4a7dde", "#2b9bb5", "#2f9e6b", "#a3932b", "#d9822b")  # as many as Fig. 6 has; readable on white and on near-black
EXTRA: dict[str, Any] = {"facecolor": "none", "edgecolor": GREY, "hatch": "////", "linewidth": 0.8}  # of bars that Fig. 6 does not have
LINE = "#30343b"
GROUP_WIDTH = 0.84  # of the distance between groups
LEAST_WIDTH, WIDTH_PER_GROUP, HEIGHT = 6.4, 1.2, 7.4  # inches


def write_bars(paths: Sequence[Path], groups: Sequence[Group]) -> None:
    """Write the figure to each file, in the format of its suffix: SVG has no background, and the numbers as its description."""
    with mpl.rc_context(STYLE):
        figure = bars_figure(groups)
        for path in paths:
            is_svg = path.suffix == ".svg"
            facts = {"Date": None, "Title": "Ablation", "Description": _spoken(groups)} if is_svg else {}
            figure.savefig(path, facecolor="none" if is_svg else "white", dpi=150, metadata=facts)


def bars_figure(groups: Sequence[Group]) -> Figure:
    """A chart per metric, in percent; the groups have the same configurations."""
    figure = Figure(figsize=(max(LEAST_WIDTH, WIDTH_PER_GROUP * len(groups)), HEIGHT), layout="constrained")
    charts = figure.subplots(len(METRICS), sharex=True)
    for axes, (name, label) in zip(charts, METRICS.items(), strict=True):
        axes.set(ylabel=f"{label}, %", ylim=(0, 100), xlim=(-0.55, len(groups) - 0.45), facecolor="none")
        axes.grid(axis="y", color=GREY, alpha=0.2)
        axes.tick_params(axis="x", length=0)
        axes.set_axisbelow(True)
        _draw_bars(axes, groups, name)
        _draw_lines(axes, groups, name)
    charts[-1].set_xticks(range(len(groups)), [escaped(group.category) for group in groups])
    figure.legend(*charts[0].get_legend_handles_labels(), loc="outside upper center", ncols=4, frameon=False)
    return figure


def _draw_bars(axes: Axes, groups: Sequence[Group], metric: str) -> None:
    count = len(groups[0].bars)
    width = GROUP_WIDTH / count
    for number, bar in enumerate(groups[0].bars):
        values = [(group.bars[number].metrics or {}).get(metric) for group in groups]
        places = [place + (number - (count - 1) / 2) * width for place in range(len(groups))]
        look: dict[str, Any] = {"color": COLOURS[number]} if number < len(COLOURS) else EXTRA
        axes.bar(places, [100 * (value or 0) for value in values], 0.86 * width, label=escaped(bar.label), **look)
        for place in (place for place, value in zip(places, values, strict=True) if value is None):
            axes.text(place, 1, "none", rotation=90, ha="center", va="bottom", fontsize=7)


def _draw_lines(axes: Axes, groups: Sequence[Group], metric: str) -> None:
    outline = [Stroke(linewidth=3, foreground="white"), Normal()]  # so that it is visible on bars and on any background
    for place, group in enumerate(groups):
        ends = place - GROUP_WIDTH / 2, place + GROUP_WIDTH / 2
        height, label = 100 * group.real_only[metric], "" if place else REAL_ONLY_ROW
        axes.plot(ends, (height, height), color=LINE, linewidth=1.4, label=label, path_effects=outline, solid_capstyle="butt")


def escaped(name: str) -> str:
    """A name with its dollar signs escaped, because matplotlib takes a pair of them for a formula."""
    return name.replace("$", r"\$")


def _spoken(groups: Sequence[Group]) -> str:
    """The numbers as text, for readers who cannot see the bars."""
    rows = table_rows(groups)
    said = [
        f"{category}, {label}: " + ", ".join(f"{name} {_percent(value)}" for name, value in zip(METRICS.values(), values, strict=True))
        for category, label, _, *values in rows
    ]
    return "Defect class, %. " + "; ".join(said) + "."


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.1f}"
