"""Training curves as SVG files that are readable on light and dark pages."""

from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

COLOURS = ("#4a7dde", "#d9822b", "#2f9e6b", "#7b6bd6", "#2b9bb5", "#a3932b")  # from the seventh curve on again from the start
GREY = "#858b95"  # readable on white and on near-black
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
Curve = tuple[Sequence[float], Sequence[float]]  # iterations and values


def draw_curves(path: Path, curves: Mapping[str, Curve], *, label: str) -> None:
    """Draw each curve's local mean, and its local range as a band, over the iterations."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 2.7), layout="constrained")
        axes = figure.add_subplot(xlabel="iteration", ylabel=label)
        for (name, curve), colour in zip(curves.items(), cycle(COLOURS), strict=False):
            x, low, mean, high = _binned(*curve)
            axes.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(x, mean, color=colour, linewidth=1.6, label=name)
        axes.set_ylim(bottom=0)
        axes.grid(axis="y", color=GREY, alpha=0.2)
        if len(curves) > 1:
            axes.legend(frameon=False)
        figure.savefig(path, format="svg", transparent=True, metadata={"Date": None})


def _binned(iterations: Sequence[float], values: Sequence[float]) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean iteration, and least, mean and largest value, of each bin of neighbouring iterations; only finite values count."""
    x, y = np.asarray(iterations, float), np.asarray(values, float)
    kept = np.isfinite(y)
    count = min(POINTS, max(10, kept.sum() // 5))
    x_parts, y_parts = ([part for part in np.array_split(z[kept], count) if part.size] for z in (x, y))
    low, mean, high = ([float(reduce(part)) for part in y_parts] for reduce in (np.min, np.mean, np.max))
    return [float(part.mean()) for part in x_parts], low, mean, high
