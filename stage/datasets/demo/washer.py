"""The demo's object: a brushed steel washer on a dark, matt surface, scratched or chipped.

Pictures, coverages and units as in `canvas`.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from stage.datasets.demo.canvas import SIZE, Array, Drawing, Point, discs, grid, irregular_radii, mixed, outline, position, reduced, warmth

INNER_RADIUS, OUTER_RADIUS = 22.0, 52.0
BEVEL = 4.0
LIGHT_DIRECTION = -2.3  # rad; from the upper left


@dataclass(frozen=True)
class Washer:
    """One undamaged washer: its picture, the surface without it, the share of metal in each pixel, and its centre."""

    picture: Array
    surface: Array
    metal: Array
    centre: Point


def draw_washer(rng: np.random.Generator) -> Washer:
    """One undamaged washer; washers differ a little in position, tone and the light on the brushed metal."""
    x, y = grid()
    centre = position(rng, SIZE / 2 - 2)
    radius, angle = np.hypot(x - centre[0], y - centre[1]), np.arctan2(y - centre[1], x - centre[0])
    metal = reduced(((radius > INNER_RADIUS) & (radius < OUTER_RADIUS)).astype(np.float32))
    tone = rng.uniform(0.95, 1.05) * np.array([0.985, 1.0, 1.015], dtype=np.float32) * warmth(rng, 0.01)
    shine = reduced(_brushed(radius, angle, rng) + _bevelled(radius, angle))
    surface = _surface(metal, rng)
    picture = mixed(surface, np.clip(shine, 25, 205)[..., None] * tone, metal)
    grain = rng.normal(0, 1.2, picture.shape)
    return Washer(np.clip(picture + grain, 0, 255), surface, metal, centre)


def _brushed(radius: Array, angle: Array, rng: np.random.Generator) -> Array:
    """Metal brushed in circles: light gathers in two opposite fans, and rings of fine grooves run around."""
    turn = LIGHT_DIRECTION + rng.uniform(-0.35, 0.35)
    fans = 78 * np.exp(3.5 * (np.cos(2 * (angle - turn)) - 1)) + 26 * np.exp(6.0 * (np.cos(2 * (angle - turn - 1.35)) - 1))
    grooves = gaussian_filter1d(rng.normal(0, 1, 512), 2.2)
    grooves = 7 * np.interp(radius, np.arange(512) / 6, grooves / grooves.std()).astype(np.float32)
    return 98 + fans + grooves * (0.6 + fans / 70)


def _bevelled(radius: Array, angle: Array) -> Array:
    """The outer rim slopes outwards and the inner one inwards, so they catch the light on opposite sides."""
    outer = np.clip((radius - OUTER_RADIUS + BEVEL) / BEVEL, 0, 1)
    inner = np.clip((INNER_RADIUS + BEVEL - radius) / BEVEL, 0, 1)
    facing = np.cos(angle - LIGHT_DIRECTION)
    return (outer > 0) * (58 * facing - 12) * (0.5 + 0.5 * outer) - (inner > 0) * (50 * facing + 12) * (0.5 + 0.5 * inner)


def _surface(metal: Array, rng: np.random.Generator) -> Array:
    """The surface under the washer, with the washer's soft shadow to the lower right."""
    shadow = np.roll(gaussian_filter(metal, 3.5), (4, 4), (0, 1))
    light = 1 + rng.uniform(-0.06, 0.06) + gaussian_filter(rng.normal(0, 1, metal.shape), 1.0) * 0.12
    return (light * (1 - 0.62 * shadow))[..., None] * np.array([58, 60, 66])


def scratch(washer: Washer, rng: np.random.Generator) -> Drawing:
    """One to three short, curved, bright scratches across the grooves, each with a burr in its shadow."""
    lines = [_line(washer.centre, rng) for _ in range(rng.integers(1, 4))]
    bright = np.max([discs(line) for line in lines], axis=0)
    burr = np.max([discs([(x + 0.7, y + 0.7, 0.9 * width) for x, y, width in line]) for line in lines], axis=0)
    depth = gaussian_filter(rng.normal(0, 1, bright.shape), 2)
    glint = np.clip(238 + 130 * depth, 215, 255)[..., None] * np.array([0.99, 0.99, 1.0])
    damaged = mixed(mixed(washer.picture, np.full(3, 45), 0.7 * burr), glint, bright)
    return Drawing(washer.picture, damaged, np.ceil(np.maximum(bright, burr)))


def _line(centre: Point, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Discs along a scratch 20 to 45 px long; in polar coordinates, so that it stays clear of both rims."""
    length = rng.uniform(22, 40)
    start, end = rng.permutation([rng.uniform(29, 33), rng.uniform(40, 45)])
    sweep = np.sqrt(max(length**2 - (end - start) ** 2, 0)) / ((start + end) / 2)
    s = np.linspace(0, 1, 80)
    radius = start + (end - start) * s + rng.uniform(-3, 3) * np.sin(np.pi * s)
    angle = rng.uniform(0, 2 * np.pi) + sweep * s * rng.choice([-1, 1])
    width = rng.uniform(0.8, 1.3) * (0.55 + 0.45 * np.sin(np.pi * s))
    return list(zip(centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle), width, strict=True))


def chip(washer: Washer, rng: np.random.Generator) -> Drawing:
    """A bite out of the outer or inner rim: the surface shows where metal is gone, rough dark fracture around it."""
    rim = OUTER_RADIUS if rng.random() < 0.65 else INNER_RADIUS
    angle, radius = rng.uniform(0, 2 * np.pi), rng.uniform(9, 13)
    centre = (washer.centre[0] + rim * np.cos(angle), washer.centre[1] + rim * np.sin(angle))
    radii = irregular_radii(rng, roughness=0.22, harmonics=10)
    gone = outline(radii * irregular_radii(rng, roughness=0.12, harmonics=6), centre, 0.6 * radius)
    damaged = mixed(washer.surface, mixed(_fracture(rng), 0.75 * washer.surface, gone), washer.metal)
    return Drawing(washer.picture, damaged, outline(radii, centre, radius) * (washer.metal > 0))


def _fracture(rng: np.random.Generator) -> Array:
    """Broken metal: small facets, each lit by its slope, all darker than the brushed face."""
    bumps = gaussian_filter(rng.normal(0, 1, (SIZE, SIZE)), 1.4)
    slope_y, slope_x = np.gradient(bumps / bumps.std())
    light = np.clip(66 - 30 * slope_x - 30 * slope_y, 30, 118)
    return light[..., None] * np.array([1.02, 1.0, 0.97])
