"""Masks of drawn shapes: cracks, scratches and pits. Not in the paper.

Each function returns the smallest box around one shape, (h, w) uint8 in {0, 1}, 1 = defect, with `area` px of defect, or fewer where
that would make a line longer than `longest` px. h, w size of the box.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from stage.core.arrays import Mask, Random, Values
from stage.datasets.components import bounding_box

CRACK_RATIO, SCRATCH_RATIO = (12.0, 40.0), (25.0, 80.0)  # length over mean width
WANDER, KINK = 0.9, 0.45  # rad; standard deviations of a crack's direction: over its whole length, and from one kink to the next
KINKS = 24  # straight parts of a crack
BRANCHES, MOST_BRANCHES = 1.5, 4  # mean number of a crack's branches, and the largest
BRANCH_ANGLE, BRANCH_LENGTH, BRANCH_WIDTH = (0.4, 1.2), (0.12, 0.45), 0.6  # rad; of the crack's length; of its width
BEND = 0.5  # rad; by how much the direction of a scratch changes over its length, at most
SCRATCHES, PITS = (0.6, 0.25, 0.15), (0.4, 0.25, 0.2, 0.15)  # how often there are 1, 2, ... of them
ROUGHNESS = 0.35  # of a pit's radius: how far its outline departs from a circle, about
FINE = 0.5  # px between the points of a line, so that its pixels touch


class Line(NamedTuple):
    """Points (n, 2) of a line, row and column in arbitrary units, and its half width at each, (n,), relative to the other lines'."""

    points: Values
    widths: Values


def crack(area: int, longest: float, random: Random) -> Mask:
    """A random walk whose direction wanders and kinks, with branches that are shorter and thinner, of varying width, tapered at the ends."""
    trunk = _walk(KINKS, random)
    lines = [trunk]
    for _ in range(min(MOST_BRANCHES, int(random.poisson(BRANCHES)))):
        start = int(random.uniform(0.15, 0.85) * len(trunk.points))
        branch = _walk(KINKS, random)
        along = trunk.points[start] - trunk.points[start - 1]
        angle = np.arctan2(along[0], along[1]) + random.choice([-1, 1]) * random.uniform(*BRANCH_ANGLE)
        points = _turned(branch.points, angle) * random.uniform(*BRANCH_LENGTH)
        lines.append(Line(trunk.points[start] + points, branch.widths * BRANCH_WIDTH))
    return _drawn(lines, area, longest, random.uniform(*np.log(CRACK_RATIO)), random.uniform(0, 2 * np.pi))


def scratch(area: int, longest: float, random: Random) -> Mask:
    """One stroke, or two or three nearly parallel ones side by side, straight or gently bent, thinner towards the ends."""
    lines: list[Line] = []
    ratio = random.uniform(*np.log(SCRATCH_RATIO))
    for _ in range(int(random.choice(len(SCRATCHES), p=SCRATCHES)) + 1):
        length, places = (1.0 if not lines else random.uniform(0.3, 0.9)), np.linspace(0, 1, 64)
        angles = random.uniform(-BEND, BEND) * (places - 0.5) + random.normal(0, 0.05)
        points = np.cumsum(np.column_stack([np.sin(angles), np.cos(angles)]), axis=0) / len(places) * length
        offset = (0.0, 0.0) if not lines else (random.uniform(-0.15, 0.15), random.uniform(0, 1 - length))
        lines.append(Line(points + offset, _tapered(places, 0.3)))
    return _drawn(lines, area, longest, ratio, random.uniform(0, 2 * np.pi))


def pit(area: int, longest: float, random: Random) -> Mask:
    """An irregular blob, or two to four near each other, of different sizes; `longest` does not limit them."""
    count = int(random.choice(len(PITS), p=PITS)) + 1
    shares = random.dirichlet(np.full(count, 2.0))
    radii = np.sqrt(shares * area / np.pi)
    spread = 0.0 if count == 1 else 2.5 * radii.max()
    centres = random.uniform(-spread, spread, (count, 2))
    reach = int(np.ceil(np.abs(centres).max() + 3 * radii.max())) + 2
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64)
    depths = [_blob(rows - y, columns - x, radius, random) for (y, x), radius in zip(centres, radii, strict=True)]
    return lowest(np.minimum.reduce(depths), area)


def lowest(values: Values, area: int, level: float = -np.inf) -> Mask:
    """The box around the mask of the `area` px with the least values (h, w), the first of equals, and of all that are at most `level`."""
    mask = (values.ravel() <= level).astype(np.uint8)
    mask[values.ravel().argsort(kind="stable")[: max(1, area)]] = 1
    mask = mask.reshape(values.shape)
    return mask[bounding_box(mask)]


DRAWN: Mapping[str, Callable[[int, float, Random], Mask]] = {"crack": crack, "scratch": scratch, "pit": pit}


def _walk(kinks: int, random: Random) -> Line:
    """A walk of length 1 from the origin, to the right on the whole."""
    wander = np.cumsum(random.normal(0, WANDER / np.sqrt(kinks), kinks))
    angles = wander - wander.mean() + random.normal(0, KINK, kinks)
    steps = random.uniform(0.4, 1.6, kinks)
    points = np.cumsum(np.column_stack([np.sin(angles), np.cos(angles)]) * (steps / steps.sum())[:, None], axis=0)
    rough = 1 + 0.5 * random.uniform(-1, 1, kinks + 1)
    return Line(np.vstack([np.zeros(2), points]), rough * _tapered(np.linspace(0, 1, kinks + 1), 0.2))


def _tapered(places: Values, share: float) -> Values:
    """1 along a line, falling to 0.3 over a `share` of it at either end."""
    return np.clip(np.minimum(places, 1 - places) / share, 0.3, 1)


def _turned(points: Values, angle: float) -> Values:
    sine, cosine = np.sin(angle), np.cos(angle)
    return points @ np.array([[cosine, -sine], [sine, cosine]])


def _drawn(lines: list[Line], area: int, longest: float, log_ratio: float, angle: float) -> Mask:
    """The lines at the length that the ratio of length to width gives, grown to `area` px; never so long that they would be broken.

    If the image is too small for the area, the area is reduced, so that a line keeps its ratio.
    """
    total = sum(float(np.hypot(*np.diff(line.points, axis=0).T).sum()) for line in lines)
    area = min(area, round(longest**2 * total / np.exp(log_ratio)))
    length = min(np.sqrt(area * np.exp(log_ratio) / total), longest, 0.8 * area / total)
    points, widths = _fine([Line(_turned(line.points, angle) * length, line.widths) for line in lines])
    margin = int(np.ceil(2 * area / max(1.0, total * length))) + 2
    places = np.rint(points - points.min(axis=0)).astype(int) + margin
    half_widths = np.zeros(places.max(axis=0) + margin + 1)
    np.maximum.at(half_widths, (places[:, 0], places[:, 1]), widths)
    distances, nearest = ndimage.distance_transform_edt(half_widths == 0, return_indices=True)  # pyright: ignore[reportGeneralTypeIssues]  # "None" is not iterable: by the stubs it may be
    return lowest(distances / half_widths[tuple(nearest)], area)


def _fine(lines: list[Line]) -> Line:
    """All lines as points so near to each other that no pixel between them is missed."""
    points: list[Values] = []
    widths: list[Values] = []
    for line in lines:
        along = np.append(0, np.hypot(*np.diff(line.points, axis=0).T).cumsum())
        places = np.linspace(0, along[-1], int(np.ceil(along[-1] / FINE)) + 1)
        points.append(np.column_stack([np.interp(places, along, axis) for axis in line.points.T]))
        widths.append(np.interp(places, along, line.widths))
    return Line(np.vstack(points), np.concatenate(widths))


def _blob(rows: Values, columns: Values, radius: float, random: Random) -> Values:
    """The distance of each pixel from a blob's centre, relative to its outline there: a circle with harmonics of two to five turns."""
    angles, outline = np.arctan2(rows, columns), np.ones_like(rows)
    for turns in range(2, 6):
        outline += random.normal(0, ROUGHNESS / turns) * np.cos(turns * angles + random.uniform(0, 2 * np.pi))
    return np.hypot(rows, columns) / (radius * np.maximum(outline, 0.3))
