"""`quilt`: the texture of a defect in another shape, of its own pixels alone, matched to its new surroundings."""

import numpy as np
import pytest

from stage.core.synthesis_params import Quilt
from stage.datasets.pairs import Pair
from stage.synthesis.methods.quilt import colour_change
from stage.synthesis.quilting import _before_cut, inner_distance, quilted  # pyright: ignore[reportPrivateUsage]

PARAMS = Quilt(patch=8, candidates=64, tolerance=0.1, rim=0.0, blends=("hard",), reach=2, ring=3, visible=8.0)


def defect(height: int, width: int, seed: int = 0) -> Pair:
    """A photograph of black with a rectangle of grey noise in its middle."""
    image, mask = np.zeros((48, 64, 3), np.uint8), np.zeros((48, 64), np.uint8)
    mask[10 : 10 + height, 12 : 12 + width] = 1
    image[mask > 0] = np.random.default_rng(seed).integers(150, 201, (height * width, 1))
    return Pair(image, mask)


@pytest.mark.parametrize("size", [(20, 30), (1, 40), (25, 2), (1, 1), (3, 3)])
def test_only_pixels_of_the_defect_are_used(size: tuple[int, int]) -> None:
    """Normal texture would be labelled as defect."""
    region = np.zeros((40, 40), np.uint8)
    region[3:37, 5:9] = region[20:30, 5:40] = 1
    made = quilted(defect(*size), region, PARAMS, np.random.default_rng(0))

    assert made[region > 0].min() >= 150
    assert made[region > 0].max() <= 200


def test_the_same_seed_makes_the_same_pixels_and_another_one_others() -> None:
    """A sample could not be made again, or all be alike."""
    region = np.ones((30, 30), np.uint8)
    one, again, other = (quilted(defect(20, 30), region, PARAMS, np.random.default_rng(seed)) for seed in (0, 0, 1))

    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)


def test_a_pattern_goes_on_across_the_seams() -> None:
    """Patches would lie side by side like tiles: every stripe is 4 px wide in the defect, and has to be in the quilt."""
    image = np.zeros((48, 64, 3), np.uint8)
    image[:, (np.arange(64) // 4) % 2 == 1] = 200
    made = quilted(Pair(image, np.ones((48, 64), np.uint8)), np.ones((40, 40), np.uint8), PARAMS, np.random.default_rng(3))
    changes = np.abs(np.diff(made[..., 0].astype(int), axis=1)) > 100

    assert (np.abs(np.diff(made[..., 0].astype(int), axis=0)) > 100).mean() < 0.01
    assert abs(changes.mean() - 0.25) < 0.03


def test_a_defect_keeps_its_rim() -> None:
    """Broken glass shines at its edges; made without a guide, it would shine anywhere."""
    source = defect(30, 40)
    source.image[source.mask > 0] = 60
    source.image[(source.mask > 0) & (inner_distance(source.mask) <= 2)] = 220
    region = np.zeros((48, 64), np.uint8)
    region[5:40, 8:50] = 1
    made = quilted(source, region, PARAMS.model_copy(update={"rim": 20.0, "candidates": 512}), np.random.default_rng(0))[..., 0]
    depth = inner_distance(region)

    assert made[(region > 0) & (depth <= 2)].mean() > 180
    assert made[depth > 6].mean() < 90


def test_the_cut_follows_the_least_cost() -> None:
    """Seams would run through what differs most. The costs of nothing are on one path."""
    costs = np.full((4, 3), 9, np.float32)
    path = [0, 1, 1, 2]
    costs[range(4), path] = 0

    assert _before_cut(costs, 5).sum(axis=1).tolist() == path


def test_colours_move_by_the_difference_just_outside() -> None:
    """A defect of a dark photograph would be a dark patch on a bright one."""
    dark, bright = defect(6, 6), Pair(np.full((48, 64, 3), 90, np.uint8), np.zeros((48, 64), np.uint8))
    bright.mask[20:30, 20:30] = 1

    assert colour_change(dark, bright, 3).tolist() == [90.0] * 3
    assert colour_change(dark, Pair(bright.image, np.ones_like(bright.mask)), 3).tolist() == [0.0] * 3


@pytest.mark.parametrize("colour", [(255, 255, 255), (200, 30, 40)])
def test_a_defect_of_one_colour_is_quilted(colour: tuple[int, int, int]) -> None:
    """Every patch fits exactly: errors that rounding made negative would leave none to choose from, and end the run."""
    rows, columns = np.ogrid[:128, :128]
    mask = (np.hypot(rows - 64, columns - 64) < 30).astype(np.uint8)
    image = np.zeros((128, 128, 3), np.uint8)
    image[mask > 0] = colour
    params = PARAMS.model_copy(update={"patch": 16, "rim": 4.0})
    for seed in range(3):
        assert (quilted(Pair(image, mask), mask, params, np.random.default_rng(seed))[mask > 0] == colour).all()
