"""Textures without a file: noise, cells, stripes, checks, grain and scratches, in two to four colours. Not in any of the papers.

H, W size of the texture. A pattern is (H, W) float32 in [0, 1]; a texture is (H, W, 3) uint8 RGB.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

Pattern = NDArray[np.float32]
OCTAVES = 6
MOST_COLOURS = 4


def procedural(height: int, width: int, seed: int) -> NDArray[np.uint8]:
    """The texture of a seed: one of six patterns, coloured; the same seed gives the same pixels."""
    random = np.random.default_rng(seed)
    pattern = PATTERNS[list(PATTERNS)[random.integers(len(PATTERNS))]](height, width, random)
    return _coloured(pattern, random)


def _coloured(pattern: Pattern, random: np.random.Generator) -> NDArray[np.uint8]:
    """A pattern through a map of random colours, with some grain: no photographed surface is flat."""
    colours = random.integers(0, 256, (int(random.integers(2, MOST_COLOURS, endpoint=True)), 3))
    places = np.linspace(0, 255, len(colours))
    levels = np.stack([np.interp(np.arange(256), places, channel) for channel in colours.T], axis=1)
    grain = random.normal(0, random.uniform(0, 8), pattern.shape)[..., None]
    return np.clip(np.rint(levels[(255 * pattern).astype(np.uint8)] + grain), 0, 255).astype(np.uint8)


def _octaves(height: int, width: int, random: np.random.Generator) -> Pattern:
    """Noise of several scales, each finer one weaker: clouds, marble, stains."""
    total, weight, persistence = np.zeros((height, width), np.float32), 1.0, random.uniform(0.4, 0.8)
    for octave in range(int(random.integers(1, 4)), OCTAVES + 1):
        total += weight * _smooth_noise(height, width, 2**octave, 2**octave, random)
        weight *= persistence
    return _stretched(total)


def _smooth_noise(height: int, width: int, rows: int, columns: int, random: np.random.Generator) -> Pattern:
    """Random values on a lattice, interpolated."""
    values = cv2.resize(random.random((rows, columns), np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.asarray(values, np.float32)


def _cells(height: int, width: int, random: np.random.Generator) -> Pattern:
    """Distances to the nearest of random points (Worley noise), or a level for each point's cell: stone, grains, leather."""
    count = int(random.integers(8, 200))
    away = np.ones((height, width), np.uint8)
    away[random.integers(0, height, count), random.integers(0, width, count)] = 0
    distances, labels = cv2.distanceTransformWithLabels(away, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    if random.random() < 0.5:
        return _stretched(np.asarray(distances, np.float32))
    return random.random(int(labels.max()) + 1, np.float32)[np.asarray(labels, np.intp)]


def _stripes(height: int, width: int, random: np.random.Generator) -> Pattern:
    """Sine waves, bent by noise: wood, cloth, brushed metal."""
    bend = random.uniform(0, 4) * _smooth_noise(height, width, 4, 4, random)
    return (0.5 + 0.5 * np.sin(_ramp(height, width, random) + bend)).astype(np.float32)


def _checks(height: int, width: int, random: np.random.Generator) -> Pattern:
    """Two square waves across each other: weave, tiles."""
    angle, frequency = random.uniform(0, np.pi), random.uniform(3, 20)
    one, other = (np.sin(_wave(height, width, angle + turn, frequency)) > 0 for turn in (0, np.pi / 2))
    return (one ^ other).astype(np.float32)


def _grain(height: int, width: int, random: np.random.Generator) -> Pattern:
    """White noise, blurred by unequal amounts along rows and columns: sand, brushed or cast metal."""
    along, across = random.uniform(0.5, 6, 2)
    blurred = cv2.GaussianBlur(random.random((height, width), np.float32), (0, 0), along, sigmaY=across)
    return _stretched(np.asarray(blurred, np.float32))


def _scratches(height: int, width: int, random: np.random.Generator) -> Pattern:
    """Thin lines of random levels on faint noise."""
    canvas = 0.3 * _octaves(height, width, random)
    for _ in range(int(random.integers(10, 60))):
        start, end = (tuple(random.integers(0, (width, height)).tolist()) for _ in range(2))
        level, thickness = float(random.uniform(0.4, 1)), int(random.integers(1, 4))
        cv2.line(canvas, start, end, level, thickness)
    return canvas


def _ramp(height: int, width: int, random: np.random.Generator) -> Pattern:
    return _wave(height, width, random.uniform(0, np.pi), random.uniform(3, 40))


def _wave(height: int, width: int, angle: float, frequency: float) -> Pattern:
    """The phase of a plane wave with `frequency` periods over the image's larger side."""
    rows, columns = np.ogrid[:height, :width]
    phase = (rows * np.sin(angle) + columns * np.cos(angle)) * (2 * np.pi * frequency / max(height, width))
    return phase.astype(np.float32)


def _stretched(values: Pattern) -> Pattern:
    """Values scaled so that the least is 0 and the largest 1."""
    low, high = float(values.min()), float(values.max())
    return (values - low) / max(high - low, 1e-6)


PATTERNS: dict[str, Callable[[int, int, np.random.Generator], Pattern]] = {
    "octaves": _octaves,
    "cells": _cells,
    "stripes": _stripes,
    "checks": _checks,
    "grain": _grain,
    "scratches": _scratches,
}
