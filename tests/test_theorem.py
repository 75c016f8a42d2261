"""Theorem 1, both ways: the excess error of the linear schedule vanishes where the theorem's assumption holds, and not without it.

Eq. 9 to 11 at the pixels of a 2 x 2 mask: with gap d = delta_p - delta_b, E(w) = d^2 (w - w*)^2, so the excess of M_t^p over w* is
d^2 (M_t^p - w*)^2. t_s is T / 5, as the paper's 200 is of 1000.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from stage.model.schedule import paper_timestep, training_alignment_masks

COUNTS = (125, 250, 500, 1000, 2000, 4000, 8000)
Values = NDArray[np.float64]
Weights = Callable[[int], Values]
PIXELS = np.arange(4)
DEFECT = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]], dtype=torch.float64)


@cache
def schedule(count: int) -> Values:
    """M_t^p at every timestep of T = `count` and every pixel: (T, 4); the first pixel is the defect."""
    t = torch.arange(count)
    masks = training_alignment_masks(DEFECT.repeat(count, 1, 1, 1), t, threshold=count // 5, timestep_count=count)
    return masks.flatten(1).numpy()


def share(count: int) -> Values:
    """The share t / T of every timestep, (T, 1)."""
    return (paper_timestep(np.arange(count)) / count)[:, None]


def gap(count: int) -> Values:
    """delta_p - delta_b, (T, 4): smooth in t, different at every pixel, at least 0.5."""
    return 1 + 0.5 * np.cos(3 * share(count) + PIXELS)


def error(weight: Values | float, delta_p: Values | float, delta_b: Values | float) -> Values:
    """E_i(w, t) of Eq. 10."""
    return np.square(weight * delta_p + (1 - weight) * delta_b)


def errors(best: Values, d: Values) -> tuple[Values, Values]:
    """delta_p and delta_b whose best weight is `best` and whose difference is `d`."""
    return (1 - best) * d, -best * d


def excess(count: int, best: Weights) -> float:
    """The sum over the pixels of E(M_t^p) - E(w*), Eq. 11, at the worst timestep."""
    delta_p, delta_b = errors(best(count), gap(count))
    optimum = -delta_b / (delta_p - delta_b)  # the proof's w*
    return (error(schedule(count), delta_p, delta_b) - error(optimum, delta_p, delta_b)).sum(1).max()


def near(count: int) -> Values:
    """w* within C / T of the line, C = 3: the assumption, imposed."""
    return schedule(count) + 3 / count * np.sin(5 * share(count) + PIXELS)


def half(count: int) -> Values:
    """w* = 1/2 everywhere and at all t: errors of opposite sign, Lipschitz in t as few things are."""
    return np.full((count, 4), 0.5)


def wave(count: int) -> Values:
    """w* between 1/4 and 3/4, moving with t; Lipschitz as a function of t / T, and so ever smoother in t as T grows."""
    return 0.5 + 0.25 * np.sin(5 * share(count) + PIXELS)


def slope(best: Weights) -> float:
    """Of log excess over log T."""
    return np.polyfit(np.log(COUNTS), np.log([excess(count, best) for count in COUNTS]), 1)[0]


def test_best_weight_is_the_proofs() -> None:
    """The excess would be measured from another weight than the best one: nothing on a grid of weights is below it."""
    delta_p, delta_b = errors(wave(125), gap(125))

    grid = np.linspace(-1, 2, 301)[:, None, None]
    assert (error(grid, delta_p, delta_b) >= error(wave(125), delta_p, delta_b) - 1e-15).all()


def test_the_excess_falls_with_the_square_of_the_steps_where_the_assumption_is_imposed() -> None:
    """The theorem would not hold even as far as it does: |w* - M_t^p| <= C/T gives O(1/T^2)."""
    assert all((np.abs(near(count) - schedule(count)) <= 3 / count).all() for count in COUNTS)
    assert slope(near) == pytest.approx(-2, abs=0.02)


@pytest.mark.parametrize("best", [half, wave])
def test_the_excess_stays_where_the_best_weight_is_smooth_and_off_the_line(best: Weights) -> None:
    """The page would deny a theorem that is true: here the errors are Lipschitz, and more steps do not help."""
    for count in COUNTS:
        steps = [np.abs(np.diff(values, axis=0)).max() for values in (*errors(best(count), gap(count)), best(count))]
        assert max(steps) * count <= 5  # one Lipschitz constant in t / T for all T; in t it is 5 / T and under any L
    assert slope(best) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("count", COUNTS)
def test_the_counterexample_by_hand(count: int) -> None:
    """The page's figures: delta_p = 1 and delta_b = -1 at one pixel outside the mask, where M_t^p is 0 for a fifth of the timesteps."""
    weight = schedule(count)[:, 1]

    found = error(weight, 1, -1) - error(0.5, 1, -1)
    assert found[: count // 5].tolist() == [1.0] * (count // 5)  # 4 (1/2)^2
    assert found.mean() == pytest.approx(0.2 * 1 + 0.8 * 1 / 3, abs=1e-4)  # and the mean of 4 (zeta - 1/2)^2 is 1/3 above t_s


def test_a_background_that_is_known_wants_the_binary_mask() -> None:
    """The proof's "never exceeds the error of a binary mask" would be true: with delta_b = 0 the soft weight costs zeta^2 delta_p^2."""
    outside = schedule(1000)[:, 1]

    found = error(outside, 2, 0)
    assert found[599] == pytest.approx(0.5**2 * 2**2)  # the paper's t = 600, zeta = 1/2
    assert (found[200:] > error(0, 2, 0)).all()
