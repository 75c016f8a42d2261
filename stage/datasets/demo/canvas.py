"""Shared by the demo's drawings: picture size, supersampling, irregular outlines and the class `Drawing`.

Pictures are (SIZE, SIZE, 3) in [0, 255]; coverages (SIZE, SIZE) in [0, 1]; both are floats. Lengths and positions are
in native pixels; positions are (x, y).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Array = NDArray[np.floating[Any]]
Point = tuple[float, float]

SIZE = 128
SUPERSAMPLING = 3
FINE = 8  # supersampling of outlines and strokes
OUTLINE_POINTS = 48


@dataclass(frozen=True)
class Drawing:
    """A clean part, the same part damaged all over, and the share of each pixel that the damage covers."""

    clean: Array
    damaged: Array
    coverage: Array


def position(rng: np.random.Generator, margin: float) -> Point:
    """A random point of the picture, at least `margin` from its edges."""
    return float(rng.uniform(margin, SIZE - margin)), float(rng.uniform(margin, SIZE - margin))


def warmth(rng: np.random.Generator, limit: float) -> Array:
    """Factors on red, green and blue (3,) that make a colour up to `limit` warmer or colder."""
    return 1 + rng.uniform(-limit, limit) * np.array([1, 0, -1], dtype=np.float32)


def sized(rng: np.random.Generator, smallest: float, largest: float) -> float:
    """A length between the two, uniform in its logarithm: small ones are as frequent as large ones."""
    return float(np.exp(rng.uniform(np.log(smallest), np.log(largest))))


def illumination(rng: np.random.Generator, strongest: float) -> Array:
    """Factors around 1 of a lamp that stands anywhere, on the supersampled canvas; they differ by up to `strongest` across the picture."""
    x, y = grid()
    direction, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0, strongest)
    return 1 + strength * (np.cos(direction) * (x / SIZE - 0.5) + np.sin(direction) * (y / SIZE - 0.5))


def grid() -> tuple[Array, Array]:
    """Positions x and y of the supersampled canvas, native pixels, each (SIZE * SUPERSAMPLING,) * 2."""
    axis = (np.arange(SIZE * SUPERSAMPLING, dtype=np.float32) + 0.5) / SUPERSAMPLING
    x, y = np.meshgrid(axis, axis)
    return x, y


def reduced(canvas: Array) -> Array:
    """A supersampled canvas (H, W) or (H, W, 3), averaged over each native pixel."""
    factor = canvas.shape[0] // SIZE
    return canvas.reshape(SIZE, factor, SIZE, factor, *canvas.shape[2:]).mean(axis=(1, 3))


def painted(below: Array, above: Array, coverage: Array) -> Array:
    """`above` blended over `below` by `coverage`; each is a picture or one colour (3,)."""
    weight = coverage[..., None]
    return below * (1 - weight) + above * weight


def irregular_radii(rng: np.random.Generator, *, roughness: float, harmonics: int) -> Array:
    """Radii around 1 at OUTLINE_POINTS angles of a closed, irregular outline; higher harmonics are weaker."""
    angle = np.linspace(0, 2 * np.pi, OUTLINE_POINTS, endpoint=False, dtype=np.float32)
    order = np.arange(2, harmonics + 2, dtype=np.float32)
    phase, strength = rng.uniform(0, 2 * np.pi, harmonics), rng.uniform(0.5, 1.0, harmonics) / order
    waves = strength[:, None] * np.cos(order[:, None] * angle + phase[:, None])
    return (1 + roughness * waves.sum(0)).astype(np.float32)


def outline(radii: Array, centre: Point, radius: float) -> Array:
    """Coverage of a shape around `centre`; `radii`, as from `irregular_radii`, are relative to `radius`."""
    angle = np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    points = np.stack([radii * np.cos(angle), radii * np.sin(angle)], axis=1) * radius + np.array(centre)
    return _coverage(points.min(0), points.max(0), lambda pen, start: pen.polygon(((points - start) * FINE).ravel().tolist(), fill=255))


def discs(points: Sequence[tuple[float, float, float]]) -> Array:
    """Coverage of the union of discs (x, y, radius): a tapering stroke, if they lie close."""
    x, y, radius = np.array(points).T
    edges = np.stack([x - radius, y - radius, x + radius, y + radius], axis=1)

    def draw(pen: ImageDraw.ImageDraw, start: NDArray[np.int64]) -> None:
        for edge in ((edges - np.tile(start, 2)) * FINE).tolist():
            pen.ellipse(edge, fill=255)

    return _coverage(edges[:, :2].min(0), edges[:, 2:].max(0), draw)


def _coverage(low: Array, high: Array, draw: Callable[[ImageDraw.ImageDraw, NDArray[np.int64]], None]) -> Array:
    """What `draw` covers between the corners (x, y) `low` and `high`; only that part is drawn finely, from whole pixel `start` on."""
    coverage = np.zeros((SIZE, SIZE), np.float32)
    start, end = np.clip(np.floor(low) - 1, 0, SIZE).astype(int), np.clip(np.ceil(high) + 1, 0, SIZE).astype(int)
    if (end > start).all():
        canvas = Image.new("L", tuple(((end - start) * FINE).tolist()))
        draw(ImageDraw.Draw(canvas), start)
        coverage[start[1] : end[1], start[0] : end[0]] = np.asarray(canvas.reduce(FINE), dtype=np.float32) / 255
    return coverage
