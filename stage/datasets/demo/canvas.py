"""Shared by the demo's drawings: picture size, supersampling, irregular outlines and the class `Drawing`.

Pictures are (SIZE, SIZE, 3) in [0, 255]; coverages (SIZE, SIZE) in [0, 1]; both are floats. Lengths and positions are
in native pixels; positions are (x, y).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

Array = NDArray[np.floating[Any]]
Point = tuple[float, float]

SIZE = 128
SUPERSAMPLING = 3
OUTLINE_SUPERSAMPLING = 8
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


def grid() -> tuple[Array, Array]:
    """Positions x and y of the supersampled canvas, native pixels, each (SIZE * SUPERSAMPLING,) * 2."""
    axis = (np.arange(SIZE * SUPERSAMPLING, dtype=np.float32) + 0.5) / SUPERSAMPLING
    x, y = np.meshgrid(axis, axis)
    return x, y


def reduced(canvas: Array) -> Array:
    """A supersampled canvas (H, W) or (H, W, 3), averaged over each native pixel."""
    factor = canvas.shape[0] // SIZE
    return canvas.reshape(SIZE, factor, SIZE, factor, *canvas.shape[2:]).mean(axis=(1, 3))


def mixed(below: Array, above: Array, coverage: Array) -> Array:
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
    x, y = centre[0] + radius * radii * np.cos(angle), centre[1] + radius * radii * np.sin(angle)
    canvas = _outline_canvas()
    ImageDraw.Draw(canvas).polygon((np.stack([x, y], axis=1) * OUTLINE_SUPERSAMPLING).ravel().tolist(), fill=255)
    return _coverage(canvas)


def discs(points: list[tuple[float, float, float]]) -> Array:
    """Coverage of the union of discs (x, y, radius): a tapering stroke, if they lie close."""
    canvas = _outline_canvas()
    pen = ImageDraw.Draw(canvas)
    for x, y, radius in points:
        pen.ellipse([OUTLINE_SUPERSAMPLING * edge for edge in (x - radius, y - radius, x + radius, y + radius)], fill=255)
    return _coverage(canvas)


def _outline_canvas() -> Image.Image:
    return Image.new("L", (SIZE * OUTLINE_SUPERSAMPLING, SIZE * OUTLINE_SUPERSAMPLING))


def _coverage(canvas: Image.Image) -> Array:
    return np.asarray(canvas.reduce(OUTLINE_SUPERSAMPLING), dtype=np.float32) / 255
