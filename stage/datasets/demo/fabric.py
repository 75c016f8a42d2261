"""The demo's texture: plain-woven linen that fills the picture, stained or with a pinhole.

Pictures, coverages and units as in `canvas`.
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from stage.datasets.demo.canvas import (
    SIZE,
    SUPERSAMPLING,
    Array,
    Drawing,
    discs,
    grid,
    irregular_radii,
    mixed,
    outline,
    position,
    reduced,
    warmth,
)

PITCH = 7.0  # px from thread to thread; the pattern repeats after two threads
THREAD_WIDTH = 0.94  # of the pitch
WARP_COLOUR = np.array([190, 178, 155], dtype=np.float32)
WEFT_COLOUR = np.array([163, 150, 127], dtype=np.float32)


def draw_cloth(rng: np.random.Generator) -> Array:
    """One piece of undamaged cloth; pieces differ a little in position, rotation, light and dye."""
    u, v = _thread_coordinates(rng)
    height, warp_on_top = _woven(u, v)
    slope_y, slope_x = np.gradient(height * SUPERSAMPLING)
    light = (0.52 + 0.42 * height) * (1 - 0.11 * slope_x - 0.14 * slope_y)
    along, across = np.where(warp_on_top, v, u), np.where(warp_on_top, u, v)
    light *= 1 + 0.06 * np.sin(2 * np.pi * (2.2 * along + 1.3 * across))
    light *= 1 + _thread_tones(rng, u, v, warp_on_top) + _light_gradient(rng)
    dye = rng.uniform(0.95, 1.05) * warmth(rng, 0.02)
    colour = np.where(warp_on_top[..., None], WARP_COLOUR, WEFT_COLOUR) * dye
    cloth = reduced(light[..., None] * colour)
    return np.clip(cloth + rng.normal(0, 1.5, cloth.shape), 0, 255)


def _thread_coordinates(rng: np.random.Generator) -> tuple[Array, Array]:
    """Positions in units of threads, across the warp and across the weft, for a slightly rotated piece."""
    x, y = grid()
    turn, shift_x, shift_y = math.radians(rng.uniform(-1.5, 1.5)), rng.uniform(-1.5, 1.5), rng.uniform(-1.5, 1.5)
    x, y = x - SIZE / 2 + shift_x, y - SIZE / 2 + shift_y
    x, y = math.cos(turn) * x - math.sin(turn) * y, math.sin(turn) * x + math.cos(turn) * y
    phase_x, phase_y = rng.uniform(0, 2 * math.pi), rng.uniform(0, 2 * math.pi)
    u = (x + 0.5 * np.sin(y / 14 + phase_x)) / PITCH
    v = (y + 0.5 * np.sin(x / 17 + phase_y)) / PITCH
    return u, v


def _woven(u: Array, v: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Height of the cloth in [0, 1], and where the warp lies on top: every thread goes over one and under one."""
    warp = 0.55 * _wave(v, u) + 0.45 * _round(u)
    weft = -0.55 * _wave(u, v) + 0.45 * _round(v)
    height = np.maximum(np.maximum(np.where(_round(u) > 0, warp, -1), np.where(_round(v) > 0, weft, -1)), -0.4)
    return (height + 0.4) / 1.4, warp > weft


def _wave(along: Array, across: Array) -> Array:
    return np.cos(np.pi * (along - 0.5)) * (1 - 2 * (np.floor(across) % 2))


def _round(across: Array) -> Array:
    """The upper half of a thread's circular section."""
    offset = (across - np.floor(across) - 0.5) * 2 / THREAD_WIDTH
    return np.sqrt(np.clip(1 - offset**2, 0, 1))


def _thread_tones(rng: np.random.Generator, u: Array, v: Array, warp_on_top: NDArray[np.bool_]) -> Array:
    """Threads are dyed unevenly: one offset per thread."""
    tones = rng.normal(0, 0.02, (2, 64)).astype(np.float32)
    return np.where(warp_on_top, tones[0][np.floor(u).astype(int) % 64], tones[1][np.floor(v).astype(int) % 64])


def _light_gradient(rng: np.random.Generator) -> Array:
    x, y = grid()
    direction = rng.uniform(0, 2 * math.pi)
    return 0.14 * (math.cos(direction) * (x / SIZE - 0.5) + math.sin(direction) * (y / SIZE - 0.5))


def stain(cloth: Array, rng: np.random.Generator) -> Drawing:
    """Liquid soaked into the cloth, 12 to 30 px across, darker towards its rim; the weave stays visible in it."""
    radius = rng.uniform(7, 12)
    centre = position(rng, 1.4 * radius)
    coverage = gaussian_filter(outline(irregular_radii(rng, roughness=0.35, harmonics=6), centre, radius), 1.2)
    rim = coverage - gaussian_filter(coverage, radius / 3)
    blotches = gaussian_filter(rng.normal(0, 1, cloth.shape[:2]), 2.5)
    tint = np.array([0.60, 0.48, 0.36]) * rng.uniform(0.85, 1.05) * warmth(rng, 0.12)
    depth = np.clip(0.95 + 0.7 * rim + 0.6 * blotches, 0.65, 1.4)[..., None]
    return Drawing(cloth, cloth * (1 - depth * (1 - tint)), coverage)


def pinhole(cloth: Array, rng: np.random.Generator) -> Drawing:
    """A hole of 3 to 5 px, dark or lit from behind, with an end of the broken thread in it."""
    radius, (x, y) = rng.uniform(1.6, 2.1), position(rng, 10)
    through = np.array([22, 19, 17] if rng.random() < 0.5 else [255, 253, 246])
    turn, steps = rng.uniform(0, 2 * np.pi), np.linspace(0.3, 1, 8) * radius
    end = discs([(x + np.cos(turn) * step, y + np.sin(turn) * step, 0.4) for step in steps])
    return Drawing(cloth, mixed(through, cloth, 0.5 * end), outline(irregular_radii(rng, roughness=0.12, harmonics=3), (x, y), radius))
