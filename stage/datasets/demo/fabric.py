"""The demo's texture: plain-woven linen that fills the picture, stained or with a hole.

Yarns differ in thickness and tone, some have a slub, and lint and dust lie on the cloth: none of that is a defect.
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
    Point,
    discs,
    grid,
    illumination,
    irregular_radii,
    outline,
    painted,
    position,
    reduced,
    sized,
    warmth,
)

PITCH = 7.0  # px from thread to thread; the pattern repeats after two threads
THREAD_WIDTH = 0.94  # of the pitch
WARP_COLOUR = np.array([182, 170, 148], dtype=np.float32)
WEFT_COLOUR = np.array([156, 144, 122], dtype=np.float32)
LIQUIDS = {  # share of red, green and blue that the deepest stain lets through
    "oil": (0.66, 0.64, 0.58),
    "tea": (0.74, 0.60, 0.44),
    "dye": (0.58, 0.62, 0.78),
    "bleach": (1.32, 1.34, 1.40),
}


def draw_cloth(rng: np.random.Generator) -> Array:
    """One piece of undamaged cloth; pieces differ in position, rotation, light, dye and yarn."""
    u, v = _thread_coordinates(rng)
    height, warp_on_top = _woven(u, v)
    slope_y, slope_x = np.gradient(height * SUPERSAMPLING)
    direction = rng.uniform(0, 2 * math.pi)
    relief = 0.19 * (math.cos(direction) * slope_x + math.sin(direction) * slope_y)
    light = (0.52 + 0.42 * height) * (1 - relief)
    along, across = np.where(warp_on_top, v, u), np.where(warp_on_top, u, v)
    light *= 1 + 0.06 * np.sin(2 * np.pi * (2.2 * along + 1.3 * across))
    light *= (1 + _yarn_tones(rng, u, v, warp_on_top)) * illumination(rng, 0.5)
    dye = rng.uniform(0.8, 1.15) * warmth(rng, 0.06)
    colour = np.where(warp_on_top[..., None], WARP_COLOUR, WEFT_COLOUR) * dye
    cloth = reduced(light[..., None] * colour) * _uneven_dye(rng)
    cloth = _with_lint(cloth, rng)
    return np.clip(cloth + rng.normal(0, 2.5, cloth.shape), 0, 255)


def _thread_coordinates(rng: np.random.Generator) -> tuple[Array, Array]:
    """Positions in units of threads, across the warp and across the weft, for a slightly rotated piece."""
    x, y = grid()
    turn, shift_x, shift_y = math.radians(rng.uniform(-4, 4)), rng.uniform(-7, 7), rng.uniform(-7, 7)
    x, y = x - SIZE / 2 + shift_x, y - SIZE / 2 + shift_y
    x, y = math.cos(turn) * x - math.sin(turn) * y, math.sin(turn) * x + math.cos(turn) * y
    phase_x, phase_y = rng.uniform(0, 2 * math.pi), rng.uniform(0, 2 * math.pi)
    u = (x + 0.6 * np.sin(y / 14 + phase_x)) / PITCH
    v = (y + 0.6 * np.sin(x / 17 + phase_y)) / PITCH
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


def _yarn_tones(rng: np.random.Generator, u: Array, v: Array, warp_on_top: NDArray[np.bool_]) -> Array:
    """Uneven yarn: every thread has its own tone, and up to five threads have a slub, a darker or brighter stretch."""
    tones = rng.normal(0, 0.05, (2, 64)).astype(np.float32)
    found = np.where(warp_on_top, tones[0][np.floor(u).astype(int) % 64], tones[1][np.floor(v).astype(int) % 64])
    for _ in range(rng.integers(1, 6)):
        is_warp, thread, middle = rng.random() < 0.5, rng.integers(-8, 9), rng.uniform(-8, 8)
        across, along = (u, v) if is_warp else (v, u)
        depth, length = rng.uniform(0.12, 0.35) * rng.choice([-1, 1]), rng.uniform(1, 4)
        slub = (np.floor(across) == thread) & (warp_on_top == is_warp)
        found = found + depth * slub * np.exp(-(((along - middle) / length) ** 2))
    return found


def _uneven_dye(rng: np.random.Generator) -> Array:
    """Broad clouds of lighter and darker cloth, without an edge; (SIZE, SIZE, 1)."""
    clouds = gaussian_filter(rng.normal(0, 1, (SIZE, SIZE)), rng.uniform(9, 16), mode="wrap")
    return (1 + rng.uniform(0.02, 0.1) * np.clip(clouds / clouds.std(), -2, 2))[..., None]


def _with_lint(cloth: Array, rng: np.random.Generator) -> Array:
    """Specks of dust under 2.5 px, bright or dark, and loose fibres that lie on the cloth."""
    for _ in range(rng.integers(2, 9)):
        x, y = position(rng, 3)
        speck = discs([(x, y, rng.uniform(0.5, 1.2))])
        cloth = painted(cloth, np.full(3, rng.choice([45.0, 225.0])), rng.uniform(0.2, 0.6) * speck)
    for _ in range(rng.integers(0, 3)):
        (x, y), turn, bend = position(rng, 5), rng.uniform(0, 2 * np.pi), rng.uniform(-0.08, 0.08)
        steps = np.arange(0, rng.uniform(8, 24), 0.4)
        fibre = discs([(x + step * np.cos(turn + bend * step), y + step * np.sin(turn + bend * step), 0.5) for step in steps])
        cloth = painted(cloth, np.full(3, rng.choice([60.0, 215.0])), 0.5 * fibre)
    return cloth


def stain(cloth: Array, rng: np.random.Generator) -> Drawing:
    """One of four liquids soaked into the cloth, 5 to 32 px across, stronger towards its rim; the weave stays visible in it."""
    radius = sized(rng, 3.5, 12)
    centre = position(rng, 1.3 * radius)
    coverage = gaussian_filter(outline(irregular_radii(rng, roughness=0.4, harmonics=6), centre, radius), min(1.2, radius / 5))
    rim = coverage - gaussian_filter(coverage, radius / 3)
    blotches = gaussian_filter(rng.normal(0, 1, cloth.shape[:2]), 2.5)
    through = np.array(LIQUIDS[rng.choice(list(LIQUIDS))]) * warmth(rng, 0.06)
    depth = np.clip(0.8 + 0.8 * rim + 0.6 * blotches, 0.5, 1.3) * rng.uniform(0.5, 1.05)
    return Drawing(cloth, cloth * (1 - depth[..., None] * (1 - through)), coverage)


def pinhole(cloth: Array, rng: np.random.Generator) -> Drawing:
    """One to three holes of 3 to 13 px, all dark or all lit from behind, with ends of the broken threads in them."""
    through = np.array([42, 39, 35] if rng.random() < 0.5 else [228, 224, 212]) * rng.uniform(0.85, 1.08)
    damaged, coverage = cloth, np.zeros(cloth.shape[:2], np.float32)
    for _ in range(rng.integers(1, 4)):
        radius = sized(rng, 1.6, 6)
        place = position(rng, 10)
        ends = np.max([_thread_end(place, radius, rng) for _ in range(1 + int(radius / 2))], axis=0)
        shape = outline(irregular_radii(rng, roughness=0.2, harmonics=4), place, radius)
        damaged = painted(damaged, painted(through, cloth, np.maximum(0.25, 0.7 * ends)), np.ceil(shape))
        coverage = np.maximum(coverage, shape)
    return Drawing(cloth, damaged, coverage)


def _thread_end(place: Point, radius: float, rng: np.random.Generator) -> Array:
    """Coverage of a thread that reaches from the rim of a hole towards its middle."""
    turn, steps = rng.uniform(0, 2 * np.pi), np.linspace(rng.uniform(0.2, 0.6), 1.2, 8) * radius
    return discs([(place[0] + np.cos(turn) * step, place[1] + np.sin(turn) * step, 0.4 + 0.12 * radius) for step in steps])
