"""The demo's object: a brushed steel washer on a dark, matt surface, scratched or corroded.

The lamp stands elsewhere in every picture; the lathe has left bright rings that a scratch resembles, and dust lies about.
Pictures, coverages and units as in `canvas`.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from stage.datasets.demo.canvas import (
    SIZE,
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

INNER_RADIUS, OUTER_RADIUS = 22.0, 52.0
BEVEL = 4.0
CORROSION = {  # tint, and the metal's change in brightness as a share
    "rust": ((1.08, 0.82, 0.64), -0.25),
    "pitting": ((1.0, 1.0, 1.0), -0.5),
    "bloom": ((0.98, 1.0, 1.02), 0.45),
    "temper": ((0.84, 0.92, 1.12), -0.15),
}


@dataclass(frozen=True)
class Washer:
    """One undamaged washer: its picture, the surface without it, the share of metal in each pixel, its centre, and the exposure."""

    picture: Array
    surface: Array
    metal: Array
    centre: Point
    exposure: float


def draw_washer(rng: np.random.Generator) -> Washer:
    """One undamaged washer; washers differ in position, tone, tool marks, and in the lamp's place and strength."""
    x, y = grid()
    centre = position(rng, SIZE / 2 - 4)
    radius, angle = np.hypot(x - centre[0], y - centre[1]), np.arctan2(y - centre[1], x - centre[0])
    metal = reduced(((radius > INNER_RADIUS) & (radius < OUTER_RADIUS)).astype(np.float32))
    lamp, exposure = rng.uniform(-np.pi, np.pi), rng.uniform(0.72, 1.15)
    tone = exposure * np.array([0.985, 1.0, 1.015], dtype=np.float32) * warmth(rng, 0.01)
    shine = _brushed(radius, angle, lamp, rng) + _tool_marks(radius, angle, lamp, rng) + _bevelled(radius, angle, lamp, rng)
    light = reduced(illumination(rng, 0.5))[..., None]
    surface = exposure * light * _surface(metal, lamp, rng)
    picture = painted(surface, np.clip(reduced(shine), 28, 225)[..., None] * light * tone, metal)
    grain = rng.normal(0, 1.2, picture.shape)
    picture = _with_dust(picture * _smudges(rng, metal), rng) + _speckle(rng) * metal[..., None]
    return Washer(np.clip(picture + grain, 0, 255), surface, metal, centre, exposure)


def _brushed(radius: Array, angle: Array, lamp: float, rng: np.random.Generator) -> Array:
    """Metal brushed in circles: light gathers in two opposite fans, and rings of fine grooves run around."""
    width, second = rng.uniform(2, 5), lamp + rng.uniform(1.0, 1.7)
    fans = 70 * np.exp(width * (np.cos(2 * (angle - lamp)) - 1)) + 26 * np.exp(6.0 * (np.cos(2 * (angle - second)) - 1))
    grooves = gaussian_filter1d(rng.normal(0, 1, 512), rng.uniform(1.4, 2.6))
    grooves = rng.uniform(6, 12) * np.interp(radius, np.arange(512) / 6, grooves / grooves.std()).astype(np.float32)
    return 92 + fans + grooves * (0.6 + fans / 70)


def _tool_marks(radius: Array, angle: Array, lamp: float, rng: np.random.Generator) -> Array:
    """Two to six fine arcs that the lathe's tool has left, bright or dark, along the grooves."""
    marks = np.zeros_like(radius)
    for _ in range(rng.integers(2, 7)):
        ring, width = rng.uniform(INNER_RADIUS + 5, OUTER_RADIUS - 5), rng.uniform(0.4, 1.0)
        turned = angle - lamp - rng.uniform(-np.pi, np.pi)
        reach = np.exp(rng.uniform(2, 12) * (np.cos(turned) - 1))
        marks += rng.uniform(25, 75) * rng.choice([1.0, 1.0, -0.8]) * reach * np.exp(-(((radius - ring) / width) ** 2))
    return marks


def _bevelled(radius: Array, angle: Array, lamp: float, rng: np.random.Generator) -> Array:
    """The outer rim slopes outwards and the inner one inwards, so they catch the light on opposite sides."""
    outer = np.clip((radius - OUTER_RADIUS + BEVEL) / BEVEL, 0, 1)
    inner = np.clip((INNER_RADIUS + BEVEL - radius) / BEVEL, 0, 1)
    facing = np.cos(angle - lamp)
    facing = facing + _worn(angle, rng)
    return (outer > 0) * (58 * facing - 12) * (0.5 + 0.5 * outer) - (inner > 0) * (50 * facing + 12) * (0.5 + 0.5 * inner)


def _worn(angle: Array, rng: np.random.Generator) -> Array:
    """Up to five short arcs of the rims are worn, so that they shine more or less than the rest."""
    worn = np.zeros_like(angle)
    for _ in range(rng.integers(0, 6)):
        turned = angle - rng.uniform(-np.pi, np.pi)
        worn += rng.uniform(-0.9, 0.9) * np.exp(rng.uniform(20, 150) * (np.cos(turned) - 1))
    return worn


def _surface(metal: Array, lamp: float, rng: np.random.Generator) -> Array:
    """The surface under the washer, with the washer's soft shadow on the side away from the lamp."""
    away = (round(-4 * np.sin(lamp)), round(-4 * np.cos(lamp)))
    shadow = np.roll(gaussian_filter(metal, 3.5), away, (0, 1))
    light = 1 + rng.uniform(-0.06, 0.06) + gaussian_filter(rng.normal(0, 1, metal.shape), 1.0) * 0.12
    return (light * (1 - 0.62 * shadow))[..., None] * np.array([58, 60, 66])


def _speckle(rng: np.random.Generator) -> Array:
    """The grain of the metal, grey; (SIZE, SIZE, 1)."""
    grain = gaussian_filter(rng.normal(0, 1, (SIZE, SIZE)), 0.7)
    return (rng.uniform(2, 6) * grain / grain.std())[..., None]


def _smudges(rng: np.random.Generator, metal: Array) -> Array:
    """Up to three breaths of oil on the metal, darker without an edge; factors (SIZE, SIZE, 1)."""
    light = np.ones_like(metal)
    for _ in range(rng.integers(0, 4)):
        radius = sized(rng, 2.5, 9)
        shape = outline(irregular_radii(rng, roughness=0.4, harmonics=4), position(rng, 16), radius)
        blot = gaussian_filter(shape, radius / rng.uniform(2, 4))
        light = light * (1 - rng.uniform(0.2, 0.5) * blot * metal)
    return light[..., None]


def _with_dust(picture: Array, rng: np.random.Generator) -> Array:
    """Pale or dark specks of dust, under 2 px."""
    for _ in range(rng.integers(2, 8)):
        speck = discs([(*position(rng, 3), rng.uniform(0.5, 1.0))])
        picture = painted(picture, np.full(3, 1.0) * rng.choice([40.0, 185.0]), rng.uniform(0.2, 0.6) * speck)
    return picture


def scratch(washer: Washer, rng: np.random.Generator) -> Drawing:
    """One to four scratches across the grooves, all bright or all dark, each with a burr along one side."""
    lines = [_line(washer.centre, rng) for _ in range(rng.integers(1, 5))]
    bright = np.max([discs(line) for line in lines], axis=0)
    burr = np.max([discs([(x + 0.7, y + 0.7, 0.9 * width) for x, y, width in line]) for line in lines], axis=0)
    depth = gaussian_filter(rng.normal(0, 1, bright.shape), 2)
    change = rng.uniform(32, 75) if rng.random() < 0.5 else rng.uniform(-60, -32)
    glint = washer.picture + washer.exposure * np.sign(change) * np.clip(abs(change) * (1 + depth), 24, 110)[..., None]
    damaged = painted(painted(washer.picture, np.clip(washer.picture - np.sign(change) * 26, 0, 255), burr), glint, bright)
    return Drawing(washer.picture, damaged, np.ceil(np.maximum(bright, burr)))


def _line(centre: Point, rng: np.random.Generator) -> list[tuple[float, float, float]]:
    """Discs along a scratch 7 to 40 px long; in polar coordinates, so that it stays clear of both rims."""
    length = sized(rng, 7, 40)
    rise = min(rng.uniform(0.3, 0.95) * length, 16.0)
    inner = rng.uniform(28, 45 - rise)
    start, end = rng.permutation([inner, inner + rise])
    sweep = np.sqrt(length**2 - rise**2) / ((start + end) / 2)
    s = np.linspace(0, 1, 80)
    radius = start + (end - start) * s + min(1.0, length / 20) * rng.uniform(-2, 2) * np.sin(np.pi * s)
    angle = rng.uniform(0, 2 * np.pi) + sweep * s * rng.choice([-1, 1])
    width = rng.uniform(0.8, 1.7) * (0.55 + 0.45 * np.sin(np.pi * s))
    return list(zip(centre[0] + radius * np.cos(angle), centre[1] + radius * np.sin(angle), width, strict=True))


def corrosion(washer: Washer, rng: np.random.Generator) -> Drawing:
    """One to four spots of one kind of corrosion on the metal, 3 to 26 px across and rough; the grooves stay visible in them."""
    damaged, coverage = washer.picture, np.zeros_like(washer.metal)
    tint, change = CORROSION[rng.choice(list(CORROSION))]
    for _ in range(rng.integers(1, 5)):
        radius, angle = sized(rng, 1.8, 10), rng.uniform(0, 2 * np.pi)
        ring = rng.uniform(INNER_RADIUS + 4, OUTER_RADIUS - 4)
        centre = (washer.centre[0] + ring * np.cos(angle), washer.centre[1] + ring * np.sin(angle))
        coverage = np.maximum(coverage, outline(irregular_radii(rng, roughness=0.35, harmonics=8), centre, radius))
    crust = gaussian_filter(rng.normal(0, 1, coverage.shape), 0.9)
    light = (change * rng.uniform(0.6, 1.0) + 0.18 * crust / crust.std())[..., None]
    damaged = damaged * (1 + light) * (np.array(tint) * warmth(rng, 0.05))
    return Drawing(washer.picture, damaged, coverage * (washer.metal > 0.5))
