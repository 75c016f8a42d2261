"""Perlin masks: the noise of the literature, its published statistics, and any size of image."""

import math
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from stage.core.params import load_params
from stage.core.synthesis_params import Perlin
from stage.synthesis.perlin import perlin_mask, perlin_noise

PARAMS = load_params(Path(__file__).parents[1] / "params.yaml").synthesize.perlin
PUBLISHED = Perlin(exponents=(0, 5), threshold=0.5, max_components=10**4)


def components(mask: np.ndarray) -> int:
    return ndimage.label(mask, structure=np.ones((3, 3)))[1]


def noise_at(i: int, j: int, height: int, width: int, angles: np.ndarray) -> float:
    """Perlin noise of one pixel, as BASELINES 1.1 describes it, in plain arithmetic."""
    y, x = i * (angles.shape[0] - 1) / height, j * (angles.shape[1] - 1) / width
    row, column = int(y), int(x)
    f_y, f_x = y - row, x - column
    corners = {}
    for o_y in (0, 1):
        for o_x in (0, 1):
            angle = angles[row + o_y, column + o_x]
            corners[o_y, o_x] = math.cos(angle) * (f_y - o_y) + math.sin(angle) * (f_x - o_x)
    s_y, s_x = (6 * f**5 - 15 * f**4 + 10 * f**3 for f in (f_y, f_x))
    left, right = ((1 - s_y) * corners[0, o_x] + s_y * corners[1, o_x] for o_x in (0, 1))
    return math.sqrt(2) * ((1 - s_x) * left + s_x * right)


@pytest.mark.parametrize(("height", "width", "lattice"), [(64, 64, (4, 8)), (30, 50, (8, 1)), (47, 33, (16, 32)), (5, 7, (1, 1))])
def test_noise_is_that_of_a_scalar_reference(height: int, width: int, lattice: tuple[int, int]) -> None:
    """The rivals' masks would not be those of their papers."""
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, (lattice[0] + 1, lattice[1] + 1))

    expected = [[noise_at(i, j, height, width, angles) for j in range(width)] for i in range(height)]

    assert np.abs(perlin_noise(height, width, angles) - expected).max() < 1e-6


def test_noise_lies_in_its_range_and_vanishes_on_the_nodes() -> None:
    """A threshold of the noise would mean something else."""
    noise = perlin_noise(256, 256, np.random.default_rng(1).uniform(0, 2 * np.pi, (9, 17)))

    assert np.abs(noise).max() <= 1
    assert np.abs(noise[::32, ::16]).max() < 1e-12


def test_one_gradient_everywhere_is_worked_out_by_hand() -> None:
    """The first component would belong to the columns: 45 degrees off in every mask."""
    noise = perlin_noise(4, 4, np.zeros((2, 2)))  # all gradients point down: n = f_y - s(f_y) along every column
    f = np.arange(4) / 4

    assert np.allclose(noise, np.sqrt(2) * (f - (6 * f**5 - 15 * f**4 + 10 * f**3))[:, None] @ np.ones((1, 4)))


@pytest.fixture(scope="module")
def published() -> list[np.ndarray]:
    """Draws as the literature makes them."""
    random = np.random.default_rng(0)
    return [perlin_mask(256, 256, PUBLISHED, random) for _ in range(700)]


def test_published_statistics_are_met(published: list[np.ndarray]) -> None:
    """Masks would be too large, too small or too often empty. 4.5 % empty, 4.9 % cover: 4,000 published draws at 256 px."""
    cover = np.array([mask.mean() for mask in published])

    assert abs((cover == 0).mean() - 0.045) < 0.012
    assert abs(cover.mean() - 0.049) < 0.003


def test_parts_are_as_many_as_published(published: list[np.ndarray]) -> None:
    """Masks would be salt and pepper, or one blob. Median of ten parts without a limit."""
    counts = [count for mask in published if (count := components(mask))]

    assert 8 <= np.median(counts) <= 12


@pytest.mark.parametrize("size", [(300, 300), (600, 800), (1, 9)])
def test_any_size_works(size: tuple[int, int]) -> None:
    """Images whose sides no power of two divides would stop the run, as they do with the published construction."""
    mask = perlin_mask(*size, PUBLISHED, np.random.default_rng(0))

    assert mask.shape == size
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 1}


def test_no_mask_has_more_parts_than_allowed() -> None:
    """Half of the masks would be crumbs that no real defect resembles."""
    random = np.random.default_rng(3)
    counts = [components(perlin_mask(128, 128, PARAMS, random)) for _ in range(100)]

    assert max(counts) <= PARAMS.max_components
    assert len(set(counts)) > 4


def test_the_largest_parts_are_kept_where_no_draw_has_few_enough() -> None:
    """A lattice of 32 cells has 196 parts on average: it would draw for ever, or break the limit."""
    fine = Perlin(exponents=(5, 5), threshold=0.5, max_components=3)
    mask = perlin_mask(256, 256, fine, np.random.default_rng(4))

    free = perlin_mask(256, 256, fine.model_copy(update={"max_components": 10**6}), np.random.default_rng(4))
    mean_part = free.sum() / components(free)
    assert components(mask) == 3
    assert mask.sum() / 3 > mean_part


def test_the_same_generator_gives_the_same_mask() -> None:
    """A sample could not be made again."""
    one, two, other = (perlin_mask(64, 64, PARAMS, np.random.default_rng(seed)) for seed in (5, 5, 6))

    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)
