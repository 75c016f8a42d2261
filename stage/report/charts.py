"""Curves as SVG files that are readable on light and dark pages."""

import io
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, product
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stage.segmentation.arms import arm_label
from stage.segmentation.verdicts import WHOLE

COLOURS = ("#4a7dde", "#c8741f", "#2f9e6b", "#7b6bd6", "#2b8fa8", "#94851f")  # the seventh curve has the first colour again, dashed
GREY = "#858b95"  # visible on white and on near-black
TEXT = {"light": "#646a75", "dark": "#9aa0aa"}  # of the page, by its colour scheme; as --muted of style.css
LINES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P")
POINTS = 80  # of a curve at most; a short one has a point per five values, but at least 10
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "stage",  # the same curve gives the same file
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": GREY,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

Floats = list[float]
Series = Mapping[str, tuple[Sequence[float], Sequence[float]]]  # iterations and values, by name


def draw_curves(path: Path, curves: Series, *, label: str) -> None:
    """Draw each curve's local mean, and its local range as a band, over the iterations."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 2.7), layout="constrained")
        axes = figure.add_subplot(xlabel="iteration", ylabel=label)
        for (name, curve), look in zip(curves.items(), _looks(COLOURS), strict=False):
            x, low, mean, high = _binned(*curve)
            axes.fill_between(x, low, high, color=look["color"], alpha=0.18, linewidth=0)
            axes.plot(x, mean, label=name, **look)
        axes.set_ylim(bottom=0)
        _save(figure, axes, path)


def draw_learning_curve(path: Path, curve: pd.DataFrame) -> None:
    """Draw the AP of each arm (columns, fractions) over the number of real defects per type (rows), evenly spaced; WHOLE is the whole third."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.2), layout="constrained")
        axes = figure.add_subplot(xlabel="real defects per type", ylabel="AP, %")
        for name, look, marker in zip(curve.columns, _looks(COLOURS), cycle(MARKERS), strict=False):
            drawn = 100 * curve[name].to_numpy(float)
            axes.plot(range(len(curve)), drawn, marker=marker, markersize=5, label=arm_label(str(name)), **look)
        axes.set_xticks(range(len(curve)), [defects_label(count) for count in curve.index])
        _save(figure, axes, path)


def defects_label(count: int) -> str:
    """A number of real defects per type, as it is shown."""
    return "whole third" if count == WHOLE else str(count)


def draw_profile(path: Path, curves: Series) -> None:
    """Draw the difference to the surroundings, of 255, over the distance from the mask's border, px; the shaded half lies inside."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 2.4), layout="constrained")
        axes = figure.add_subplot(xlabel="px from the mask's border; shaded: inside", ylabel="difference, of 255")
        for (name, (x, y)), look, marker in zip(curves.items(), _looks((GREY, *COLOURS)), cycle(MARKERS), strict=False):
            axes.plot(x, y, marker=marker, markersize=4, label=name, **look)
        axes.axvspan(min(x for xs, _ in curves.values() for x in xs), 0, color=GREY, alpha=0.12, linewidth=0)
        axes.set_ylim(bottom=0)
        _save(figure, axes, path)


def _looks(colours: Sequence[str]) -> Iterator[dict[str, Any]]:
    """How the lines of a picture are drawn: in each colour once, then likewise dashed, dotted, and so on."""
    for line, colour in cycle(product(LINES, colours)):
        yield {"color": colour, "linestyle": line, "linewidth": 1.6}


def _save(figure: Figure, axes: Axes, path: Path) -> None:
    """Save with a style sheet inside: the page's does not apply to a picture, and no grey has enough contrast on both white and black."""
    axes.grid(axis="y", color=GREY, alpha=0.2)
    if len(axes.lines) > 1:
        figure.legend(loc="outside upper left", ncols=4, frameon=False)
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None})
    rules = (
        f"text {{ fill: {TEXT['light']} !important }} @media (prefers-color-scheme: dark) {{ text {{ fill: {TEXT['dark']} !important }} }}"
    )
    path.write_text(text.getvalue().replace("</svg>", f"<style>{rules}</style></svg>"), encoding="utf-8")


def _binned(iterations: Sequence[float], values: Sequence[float]) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean iteration, and least, mean and largest value, of each bin of neighbouring iterations; only finite values count."""
    x, y = np.asarray(iterations, float), np.asarray(values, float)
    kept = np.isfinite(y)
    count = min(POINTS, max(10, kept.sum() // 5))
    x_parts, y_parts = ([part for part in np.array_split(z[kept], count) if part.size] for z in (x, y))
    low, mean, high = ([float(reduce(part)) for part in y_parts] for reduce in (np.min, np.mean, np.max))
    return [float(part.mean()) for part in x_parts], low, mean, high
