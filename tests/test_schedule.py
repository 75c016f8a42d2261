from itertools import pairwise

import pytest
import torch
from diffusers import RePaintScheduler
from hypothesis import given
from hypothesis import strategies as st

from stage.model.schedule import (
    CLEAN,
    NoiseSchedule,
    Transition,
    alignment_mask,
    alignment_weight,
    branch_of,
    paper_timestep,
    resampling_transitions,
    timesteps,
    training_alignment_masks,
    transitions,
)

PAPER = {"threshold": 200, "timestep_count": 1000}
INTERVALS = ((800, 1000), (300, 400))
SPACINGS = ("uniform", "coarse_to_fine")
DOT = torch.tensor([[[[0.0, 1.0], [0.0, 0.0]]]])


@pytest.mark.parametrize(
    ("t", "zeta"),
    [(999, 1.0), (199, 0.0), (200, 1 / 800), (599, 0.5), (399, 0.25), (0, 0.0), (CLEAN, 0.0)],
)
def test_alignment_weight_by_hand(t, zeta):
    """Otherwise Eq. 8 would be off: (t - 200) / 800 in the paper's numbers, 1 at T = 1000 and 0 from 200 down."""
    assert alignment_weight(t, **PAPER) == pytest.approx(zeta, abs=1e-15)


@given(threshold=st.integers(0, 1500), t=st.integers(CLEAN, 998))
def test_alignment_weight_grows_with_the_timestep_and_stays_a_weight(threshold, t):
    """Otherwise some threshold would give masks outside [0, 1], or one that opens while noise falls."""
    lower, upper = (alignment_weight(k, threshold=threshold, timestep_count=1000) for k in (t, t + 1))
    assert 0 <= lower <= upper <= 1
    assert lower == 0 or paper_timestep(t) > threshold


def test_alignment_mask_is_all_ones_at_the_start_and_the_defect_mask_at_the_end():
    """Otherwise sampling would not begin with the whole image and end with the defect alone."""
    assert alignment_mask(DOT, 999, **PAPER).tolist() == torch.ones(1, 1, 2, 2).tolist()
    assert alignment_mask(DOT, 599, **PAPER).tolist() == [[[[0.5, 1.0], [0.5, 0.5]]]]
    assert torch.equal(alignment_mask(DOT, 199, **PAPER), DOT)
    assert torch.equal(alignment_mask(DOT, CLEAN, **PAPER), DOT)


@pytest.mark.parametrize("t", [999, 500, 0])
def test_binary_alignment_never_softens(t):
    """Otherwise the ablation without Explicit Mask Alignment would have some of it."""
    assert torch.equal(alignment_mask(DOT, t, threshold=None, timestep_count=1000), DOT)


def test_training_masks_follow_the_timestep_of_their_row():
    """Otherwise a training image would be weighted for another one's noise level."""
    masks = training_alignment_masks(DOT.repeat(3, 1, 1, 1), torch.tensor([999, 599, 0]), **PAPER)
    assert masks[:, 0, 0, 0].tolist() == [1.0, 0.5, 0.0]
    assert masks[:, 0, 0, 1].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("code_t", "branch"),
    [
        (999, "anomaly_only"),
        (799, "anomaly_only"),
        (798, "anomaly_aware"),
        (400, "anomaly_aware"),
        (399, "anomaly_only"),
        (299, "anomaly_only"),
        (298, "anomaly_aware"),
        (0, "anomaly_aware"),
    ],
)
def test_branches_switch_at_the_papers_ends_included(code_t, branch):
    """Otherwise the graded intervals would be off by one: the paper's 800 and 1000 are 799 and 999 here."""
    assert branch_of(Transition(code_t, code_t - 1), INTERVALS) == branch


def test_no_interval_leaves_the_aware_branch_alone():
    """Otherwise the ablation without graded sampling would still use the other branch."""
    assert {branch_of(Transition(t, CLEAN), ()) for t in range(1000)} == {"anomaly_aware"}


@pytest.mark.parametrize(
    ("t", "s", "branch"),
    [
        (428, 285, "anomaly_only"),  # the paper's 429 to 286: over all of [300, 400]
        (428, 299, "anomaly_aware"),  # to 300, an end of the interval, where the next step starts
        (428, 298, "anomaly_only"),
        (399, 99, "anomaly_only"),
        (499, 199, "anomaly_only"),
        (298, CLEAN, "anomaly_aware"),
    ],
)
def test_a_step_over_a_whole_interval_is_graded(t, s, branch):
    """Otherwise few steps would lose an interval, or a step over half of one count twice."""
    assert branch_of(Transition(t, s), INTERVALS) == branch


def test_a_clean_latent_has_no_noise():
    """Otherwise the last step would leave noise behind; the others are read from the model's schedule."""
    schedule = NoiseSchedule(torch.tensor([0.75, 0.5], dtype=torch.float64))
    assert [schedule.alpha_bar(t) for t in (CLEAN, 0, 1)] == [1.0, 0.75, 0.5]
    assert schedule.timestep_count == 2


def test_ten_and_all_timesteps_by_hand():
    """Otherwise few-step sampling would start below T, or not reach the least noisy timestep in full-length sampling."""
    assert timesteps(1000, 10, "uniform") == [999, 899, 799, 699, 599, 499, 399, 299, 199, 99]
    assert timesteps(1000, 5, "coarse_to_fine") == [999, 639, 359, 159, 39]
    assert timesteps(1000, 10, "coarse_to_fine") == [999, 809, 639, 489, 359, 249, 159, 89, 39, 9]
    assert timesteps(9, 6, "coarse_to_fine") == [8, 5, 3, 2, 1, 0]  # (k/6)^2 of 9: 9, 6.25, 4, 2.25, 1, 0.25, and never under k
    for spacing in SPACINGS:
        assert timesteps(1000, 1000, spacing) == list(range(999, -1, -1))
        assert timesteps(1000, 1, spacing) == [999]


@given(st.integers(1, 1000), st.data(), st.sampled_from(SPACINGS))
def test_timesteps_decrease_from_the_last_and_are_as_many_as_asked(count, data, spacing):
    """Otherwise a step would be taken twice (a division by zero), or a budget of steps not kept."""
    steps = data.draw(st.integers(1, count))
    times = timesteps(count, steps, spacing)
    assert len(times) == steps
    assert times[0] == count - 1
    assert times[-1] >= 0
    assert all(before > after for before, after in pairwise(times))


@pytest.mark.parametrize("steps", [0, 1001])
def test_an_impossible_number_of_steps_is_refused_with_its_place(steps):
    """Otherwise a wrong params.yaml would end in a traceback from inside the sampler."""
    with pytest.raises(ValueError, match=rf"1 to 1000 sampling steps, found {steps}, in synthesize.steps"):
        timesteps(1000, steps, "uniform")


def test_transitions_end_clean():
    """Otherwise the last latent would still carry noise."""
    assert transitions([9, 4, 0]) == [Transition(9, 4), Transition(4, 0), Transition(0, CLEAN)]


def denoised(visited):
    """The timesteps that diffusers' RePaint pipeline denoises from: those below the one before."""
    return [t for before, t in zip([visited[0] + 1, *visited], visited, strict=False) if t < before]


@pytest.mark.parametrize(("jump_length", "resamplings"), [(5, 3), (10, 2), (4, 1)])
def test_resampling_walks_as_repaints_own_scheduler(jump_length, resamplings):
    """Otherwise `fresh_resample` would be called RePaint and be something else."""
    repaint = RePaintScheduler(num_train_timesteps=20)
    repaint.set_timesteps(20, jump_length=jump_length, jump_n_sample=resamplings)
    walk = resampling_transitions(list(range(19, -1, -1)), jump_length=jump_length, resamplings=resamplings)
    assert walk[-1].s == CLEAN
    assert [t for t, s in walk if s < t] == denoised(repaint.timesteps.tolist())


def test_a_walk_is_unbroken():
    """Otherwise a latent would be denoised from a noise level that it does not have."""
    walk = resampling_transitions(list(range(18, -1, -3)), jump_length=3, resamplings=4)
    assert all(before.s == after.t for before, after in pairwise(walk))
