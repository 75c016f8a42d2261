import math

import pytest
import torch
from diffusers import DDPMScheduler

from stage.model.base import noise_schedule, scheduler_config
from stage.model.diffusion import (
    SamplingRule,
    aware_step,
    compose,
    graded_step,
    isolated,
    noise_excess,
    noise_from_velocity,
    noised,
    of_unit_variance,
    posterior,
    predict_x_0,
    q_sample,
    renoise,
    sample,
    velocity,
)
from stage.model.schedule import CLEAN, NoiseSchedule, Transition, resampling_transitions, timesteps, transitions

PAPER_INTERVALS = ((800, 1000), (300, 400))
SHAPE = (2, 4, 6, 6)
THEIRS = DDPMScheduler(**scheduler_config(1000), variance_type="fixed_small")
SCHEDULE = noise_schedule(THEIRS)


def rule(*, intervals=(), threshold=200, known_region="posterior", bounds=None, **switches):
    return SamplingRule(SCHEDULE, tuple(intervals), threshold, known_region, x_0_bounds=bounds, **switches)


def noise_source(seed=0, shape=SHAPE, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return lambda: torch.randn(shape, generator=generator, dtype=dtype)


def normal(seed, shape=SHAPE):
    return noise_source(seed, shape)()


def half_mask(shape=SHAPE):
    """Ones in the left half."""
    mask = torch.zeros(shape[0], 1, *shape[2:], dtype=torch.float64)
    mask[..., : shape[3] // 2] = 1
    return mask


def perfect(x_0):
    """A network that always knows x_0."""

    def predict_noise(x_t, t, _branch, _mask):
        bar = SCHEDULE.alpha_bar(t)
        return (x_t - math.sqrt(bar) * x_0) / math.sqrt(1 - bar)

    return predict_noise


@pytest.mark.parametrize("t", [1, 2, 250, 500, 998, 999])
def test_posterior_is_diffusers_ddpm_step(t):
    """Otherwise Eq. 2 would be wrong, and every sample with it: the mean and the variance of another implementation."""
    x_t, eps = normal(1), normal(2)
    ours = posterior(x_t, predict_x_0(x_t, eps, t, SCHEDULE), Transition(t, t - 1), SCHEDULE)
    generator = torch.Generator().manual_seed(5)
    stepped = THEIRS.step(eps, t, x_t, generator=generator).prev_sample
    noise = torch.randn(SHAPE, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    assert ours.std**2 == pytest.approx(THEIRS._get_variance(t).item(), rel=1e-4)
    assert torch.allclose(ours.sample(noise), stepped, rtol=1e-4, atol=1e-5)


def test_posterior_by_hand():
    """Otherwise Eq. 2: alpha_bar 3/4 and 1/2, so beta = 1/3; the mean is sqrt(3)/3 x_0 + sqrt(2/3)/2 x_t, the variance 1/6."""
    schedule = NoiseSchedule(torch.tensor([0.75, 0.5], dtype=torch.float64))
    found = posterior(torch.tensor(6.0), torch.tensor(3.0), Transition(1, 0), schedule)
    assert found.mean.item() == pytest.approx(math.sqrt(3) / 3 * 3 + math.sqrt(2 / 3) / 2 * 6)
    assert found.std**2 == pytest.approx(1 / 6)


def test_last_step_returns_x_0_bit_for_bit():
    """Otherwise the background would come out changed in its last digit, or with the released code's noise of 0.03."""
    x_0 = normal(3).float()
    found = posterior(normal(4).float(), x_0, Transition(57, CLEAN), SCHEDULE)
    assert torch.equal(found.mean, x_0)
    assert found.std == 0


@pytest.mark.parametrize(("t", "s"), [(999, 899), (500, 3), (40, CLEAN), (7, 6)])
def test_a_long_step_is_its_unit_steps_composed(t, s):
    """Otherwise ten steps would sample from another distribution than the thousand that they stand for."""
    x_t, x_0 = normal(1), normal(2)
    long = posterior(x_t, x_0, Transition(t, s), SCHEDULE)
    mean, variance = x_t, 0.0
    for k in range(t, s, -1):
        move = Transition(k, k - 1)
        shrink = (posterior(torch.tensor(1.0), torch.tensor(0.0), move, SCHEDULE)).mean.item()
        unit = posterior(mean, x_0, move, SCHEDULE)
        mean, variance = unit.mean, unit.std**2 + shrink**2 * variance
    assert torch.allclose(long.mean, mean, rtol=1e-5, atol=1e-6)
    assert long.std**2 == pytest.approx(variance, rel=1e-5)


def test_x_0_and_noise_are_each_others_inverse():
    """Otherwise a perfect network would not give a perfect image."""
    x_0, eps = normal(1), normal(2)
    assert torch.allclose(predict_x_0(q_sample(x_0, 700, eps, SCHEDULE), eps, 700, SCHEDULE), x_0)


def test_forward_process_is_diffusers():
    """Otherwise training would see other noise levels than the base was trained at."""
    x_0, eps, t = normal(1, (3, 4, 6, 6)), normal(2, (3, 4, 6, 6)), torch.tensor([0, 400, 999])
    theirs = THEIRS.add_noise(x_0, eps, t)
    assert torch.allclose(noised(x_0, t, eps, SCHEDULE), theirs, atol=1e-6)
    assert torch.allclose(q_sample(x_0[1:2], 400, eps[1:2], SCHEDULE), theirs[1:2], atol=1e-6)


def test_more_noise_leads_to_another_x_0():
    """Otherwise training on hidden defects would lead to another image than the one with the defect. By Eq. 1: the same x_t, either way."""
    schedule = noise_schedule(DDPMScheduler(**scheduler_config(1000)))
    shown, x_0, noise = (torch.randn(3, 4, 2, 2, generator=torch.Generator().manual_seed(k), dtype=torch.float64) for k in range(3))
    t = torch.tensor([0, 500, 999])
    x_t = noised(shown, t, noise, schedule)
    torch.testing.assert_close(noised(x_0, t, noise + noise_excess(shown - x_0, t, schedule), schedule), x_t)


def test_velocity_is_diffusers_and_noise_in_other_words():
    """Otherwise a base that predicts velocity would learn, or be sampled by, another quantity than its checkpoint says."""
    x_0, eps, t = normal(1, (3, 4, 6, 6)), normal(2, (3, 4, 6, 6)), torch.tensor([0, 400, 999])
    found = velocity(x_0, t, eps, SCHEDULE)
    assert torch.allclose(found, THEIRS.get_velocity(x_0, eps, t), atol=1e-6)
    assert torch.allclose(noise_from_velocity(found, noised(x_0, t, eps, SCHEDULE), t, SCHEDULE), eps)
    row = noise_from_velocity(found[1:2], q_sample(x_0[1:2], 400, eps[1:2], SCHEDULE), 400, SCHEDULE)
    assert torch.allclose(row, eps[1:2])


def test_noise_added_back_lands_at_the_nominal_level():
    """Otherwise resampling would hand the network states that it never saw: unit variance in, signal and noise as q says."""
    moved = renoise(q_sample(torch.ones(1), 100, torch.zeros(1), SCHEDULE), Transition(100, 300), torch.zeros(1), SCHEDULE)
    assert moved.item() == pytest.approx(math.sqrt(SCHEDULE.alpha_bar(300)))
    kept = SCHEDULE.alpha_bar(300) / SCHEDULE.alpha_bar(100)
    added = renoise(torch.zeros(1), Transition(100, 300), torch.ones(1), SCHEDULE).item() ** 2
    assert added + kept * (1 - SCHEDULE.alpha_bar(100)) == pytest.approx(1 - SCHEDULE.alpha_bar(300))


def constant(value):
    return torch.full(SHAPE, float(value), dtype=torch.float64)


@pytest.mark.parametrize("threshold", [None, 200])
def test_everywhere_defect_without_grading_is_plain_ddpm(threshold):
    """Otherwise Anomaly Inference would disturb what lies inside the mask: diffusers' own loop, with the same noise, agrees."""

    def network(x, t):
        return 0.3 * x + 0.1 * math.sin(t)

    everywhere = torch.ones(SHAPE[0], 1, *SHAPE[2:], dtype=torch.float64)
    ours = sample(
        lambda x, t, _b, _m: network(x, t),
        constant(7),
        everywhere,
        moves=transitions(range(30, -1, -1)),
        rule=rule(threshold=threshold),
        draw=noise_source(9),
    )
    generator = torch.Generator().manual_seed(9)
    x = torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    for t in range(30, -1, -1):
        x = THEIRS.step(network(x, t), t, x, generator=generator).prev_sample
    assert torch.allclose(ours, x, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("known_region", ["posterior", "fresh"])
@pytest.mark.parametrize("intervals", [(), PAPER_INTERVALS])
def test_nowhere_defect_gives_the_background_exactly(known_region, intervals):
    """Otherwise synthesis would change what no mask asked it to; the network here is as wrong as can be."""
    x_back = normal(5).float()
    found = sample(
        lambda x, _t, _b, _m: torch.full_like(x, 50.0),
        x_back,
        torch.zeros(SHAPE[0], 1, *SHAPE[2:]),
        moves=transitions(timesteps(1000, 20, "uniform")),
        rule=rule(intervals=intervals, known_region=known_region),
        draw=noise_source(1, dtype=torch.float32),
    )
    assert torch.equal(found, x_back)


@pytest.mark.parametrize("known_region", ["posterior", "fresh", "fresh_resample"])
def test_perfect_network_gives_its_image_inside_and_the_background_outside(known_region):
    """Otherwise the branches, their merging or the last step would spoil what the network knows."""
    defect, background, mask = constant(3), constant(-2), half_mask()
    times = timesteps(1000, 20, "uniform")
    moves = resampling_transitions(times, jump_length=5, resamplings=2) if known_region == "fresh_resample" else transitions(times)
    found = sample(
        perfect(defect),
        background,
        mask,
        moves=moves,
        rule=rule(intervals=PAPER_INTERVALS, known_region=known_region),
        draw=noise_source(2),
    )
    assert torch.allclose(found, compose(mask, defect, background), atol=1e-9)
    assert torch.equal(found[..., 3:], background[..., 3:])


def test_redrawn_surroundings_are_the_networks_too():
    """Otherwise defects would be the only pixels that bear the network's trace, and a segmenter learn that."""
    image, mask = constant(3), half_mask()
    walk = {"moves": transitions([20, 13, 7]), "start": image}
    found = sample(perfect(image), constant(-2), mask, rule=rule(known_region="redrawn"), draw=noise_source(2), **walk)
    assert torch.allclose(found, image, atol=1e-9)


@pytest.mark.parametrize("t", [0, 100, 500, 999])
def test_preconditioned_velocity_has_variance_one_and_is_noise_in_other_words(t):
    """Otherwise channels that vary little would be learned last; of normal latents, the target's variance is known."""
    deviation = torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64)[:, None, None]
    generator = torch.Generator().manual_seed(7)
    x_0, eps = (torch.randn(64, 3, 32, 32, generator=generator, dtype=torch.float64) for _ in range(2))
    x_0, times = x_0 * deviation, torch.full((64,), t)
    x_t = noised(x_0, times, eps, SCHEDULE)
    found = velocity(x_0, times, eps, SCHEDULE, deviation)

    assert found.std((0, 2, 3)).tolist() == pytest.approx([1, 1, 1], abs=0.02)
    assert of_unit_variance(x_t, times, SCHEDULE, deviation).std((0, 2, 3)).tolist() == pytest.approx([1, 1, 1], abs=0.02)
    assert torch.allclose(noise_from_velocity(found, x_t, times, SCHEDULE, deviation), eps)


def test_a_start_is_an_image_under_the_noise_of_the_first_timestep():
    """Started without its noise, or with that of T, it would be nothing that the network has learned to denoise."""
    start, seen = constant(3), []
    sample(
        lambda x, t, _b, _m: seen.append(x) or perfect(start)(x, t, _b, _m),
        constant(0),
        half_mask(),
        moves=transitions([299, 100]),
        rule=rule(),
        draw=noise_source(4),
        start=start,
    )
    assert torch.equal(seen[0], q_sample(start, 299, noise_source(4)(), SCHEDULE))


def eq_2(x_t, x_0, t, noise):
    """The posterior with the paper's letters, written out from the betas."""
    bar_t, bar_s, beta = (float(v) for v in (THEIRS.alphas_cumprod[t], THEIRS.alphas_cumprod[t - 1], THEIRS.betas[t]))
    mean = math.sqrt(bar_s) * beta / (1 - bar_t) * x_0 + math.sqrt(1 - beta) * (1 - bar_s) / (1 - bar_t) * x_t
    return mean + math.sqrt((1 - bar_s) / (1 - bar_t) * beta) * noise


def x_0_of(x_t, eps, t):
    bar = float(THEIRS.alphas_cumprod[t])
    return (x_t - math.sqrt(1 - bar) * eps) / math.sqrt(bar)


def q(x_0, s, noise):
    bar = float(THEIRS.alphas_cumprod[s])
    return math.sqrt(bar) * x_0 + math.sqrt(1 - bar) * noise


def near(found, value):
    return torch.allclose(found, torch.full_like(found, value), rtol=2e-4, atol=1e-5)


INSIDE, OUTSIDE = (slice(None), slice(None), slice(None), slice(0, 3)), (slice(None), slice(None), slice(None), slice(3, 6))
X_T, X_T_P, EPS, X_BACK = 0.7, 1.1, 0.4, -2.0


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("known_region", ["posterior", "fresh"])
def test_anomaly_only_step_by_hand(known_region, noise):
    """Otherwise Eq. 7, first case: the defect goes by its own posterior, and is set into the background at its level."""
    t, move = 900, Transition(900, 899)
    found = graded_step(
        *(constant(v) for v in (X_T, X_T_P, EPS, X_BACK)),
        half_mask(),
        move=move,
        rule=rule(known_region=known_region),
        draw=lambda: constant(noise),
    )
    background = eq_2(X_T, X_BACK, t, noise) if known_region == "posterior" else q(X_BACK, t - 1, noise)
    assert near(found[INSIDE], eq_2(X_T_P, x_0_of(X_T_P, EPS, t), t, noise))
    assert near(found[OUTSIDE], background)


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.parametrize("known_region", ["posterior", "fresh"])
@pytest.mark.parametrize(
    ("t", "composition", "of_defect", "of_background"),
    [
        (700, "algorithm_1", 0.625, 0.625),  # the paper's number of t - 1 is 700: (700 - 200) / 800
        (700, "equation_7", 0.62625, 0.625),  # of t, 701: 501 / 800
        (700, "released", 0.62625, 0.62625),
        (150, "algorithm_1", 0.0, 0.0),
        (150, "equation_7", 0.0, 0.0),
        (150, "released", 0.0, 0.0),
    ],
)
def test_anomaly_aware_step_by_hand(t, composition, of_defect, of_background, known_region, noise):
    """Otherwise Eq. 7, second case: the background enters x_0 by the alignment mask, then the posterior, then, `fresh`, once more."""
    found = aware_step(
        *(constant(v) for v in (X_T, EPS, X_BACK)),
        half_mask(),
        move=Transition(t, t - 1),
        rule=rule(known_region=known_region, composition=composition),
        draw=lambda: constant(noise),
    )
    x_0 = x_0_of(X_T, EPS, t)
    outside = eq_2(X_T, of_defect * x_0 + (1 - of_background) * X_BACK, t, noise)
    if known_region == "fresh":
        outside = of_defect * outside + (1 - of_background) * q(X_BACK, t - 1, noise)
    assert near(found[INSIDE], eq_2(X_T, x_0, t, noise))
    assert near(found[OUTSIDE], outside)


@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_defect_alone_by_hand(noise):
    """Otherwise Eq. 7, x^p: the image inside the mask, and outside it a mask of zeros noised to the same level."""
    found = isolated(constant(X_T), half_mask(), 900, rule(), lambda: constant(noise))
    assert near(found[INSIDE], X_T)
    assert near(found[OUTSIDE], q(0, 900, noise))


@pytest.mark.parametrize(("known_region", "deviation"), [("fresh", 0.0292), ("posterior", 0.0)])
def test_released_last_step_leaves_noise_in_a_freshly_drawn_background(known_region, deviation):
    """Otherwise `last_step: noisy` would not be the released code's: sqrt(1 - alpha_bar_1) = sqrt(0.00085) remains."""
    found = sample(
        perfect(constant(3)),
        constant(-2),
        half_mask(),
        moves=transitions(timesteps(1000, 10, "uniform")),
        rule=rule(known_region=known_region, last_step="noisy"),
        draw=noise_source(4),
    )
    assert (found[OUTSIDE] + 2).std().item() == pytest.approx(deviation, rel=0.2)
    assert near(found[INSIDE], 3)


def test_predicted_x_0_is_kept_in_bounds_and_the_background_is_not():
    """Otherwise a wild estimate at high noise would burn the image, or a photograph brighter than the defects would be clipped."""
    bounds = torch.full((4, 1, 1), -1.0), torch.full((4, 1, 1), 1.0)
    found = aware_step(
        constant(0),
        constant(-50),
        constant(X_BACK),
        half_mask(),
        move=Transition(9, CLEAN),
        rule=rule(bounds=bounds),
        draw=noise_source(),
    )
    assert near(found[INSIDE], 1.0)
    assert near(found[OUTSIDE], X_BACK)


@pytest.mark.parametrize("mask_noise", ["per_channel", "shared"])
def test_fill_of_the_defect_latent_differs_by_channel_unless_shared(mask_noise):
    """Otherwise the anomaly-only branch would get, outside the defect, one noise in all channels, unlike in training."""
    found = isolated(constant(X_T), half_mask(), 900, rule(mask_noise=mask_noise), noise_source(3))
    fill = found[OUTSIDE].movedim(1, 0).flatten(1)
    others = torch.corrcoef(fill)[~torch.eye(4, dtype=bool)].abs()
    assert others.min() > 0.999 if mask_noise == "shared" else others.max() < 0.9
    assert fill.std() == pytest.approx(math.sqrt(1 - SCHEDULE.alpha_bar(900)), rel=0.2)


class Spy:
    """A network that notes what it is asked: (timestep, branch, mask), and answers zero."""

    def __init__(self):
        self.asked = []

    def __call__(self, x_t, t, branch, mask):
        self.asked.append((t, branch, mask))
        return torch.zeros_like(x_t)


def test_each_step_asks_the_network_once_with_its_branchs_mask():
    """Otherwise sampling would cost twice, or an adapter be given the other branch's mask: M_0, and M_t^p of the step's start."""
    spy = Spy()
    moves = transitions(timesteps(1000, 10, "uniform"))
    sample(spy, constant(0), half_mask(), moves=moves, rule=rule(intervals=PAPER_INTERVALS), draw=noise_source())
    assert [t for t, _, _ in spy.asked] == [move.t for move in moves]
    only = [t for t, branch, _ in spy.asked if branch == "anomaly_only"]
    assert only == [999, 899, 799, 399, 299]
    corners = {t: mask[0, 0, 0, -1].item() for t, _, mask in spy.asked}
    assert corners == pytest.approx({t: (t + 1 - 200) / 800 if t in (699, 599, 499) else 0.0 for t in corners})


@pytest.mark.parametrize("spacing", ["uniform", "coarse_to_fine"])
@pytest.mark.parametrize("steps", [5, 7, 10, 13, 50])
def test_few_steps_still_walk_every_graded_interval(spacing, steps):
    """Otherwise fewer steps would switch graded diffusion off without a word: seven uniform ones fall beside [300, 400]."""
    spy = Spy()
    moves = transitions(timesteps(1000, steps, spacing))
    found = sample(spy, constant(-2), half_mask(), moves=moves, rule=rule(intervals=PAPER_INTERVALS), draw=noise_source())
    only = [t + 1 for t, branch, _ in spy.asked if branch == "anomaly_only"]
    assert len(spy.asked) == steps
    assert [t for t in only if t > 700]
    assert [t for t in only if 280 <= t < 600]
    assert torch.equal(found[OUTSIDE], constant(-2)[OUTSIDE])


def test_first_anomaly_only_step_starts_from_the_images_noise():
    """Otherwise the first graded interval, which begins at T, would start from nothing."""
    inputs = []

    def network(x_t, _t, _branch, _mask):
        inputs.append(x_t)
        return torch.zeros_like(x_t)

    sample(network, constant(0), half_mask(), moves=[Transition(999, 998)], rule=rule(intervals=PAPER_INTERVALS), draw=noise_source(6))
    assert torch.equal(inputs[0][INSIDE], normal(6)[INSIDE])
    assert inputs[0][OUTSIDE].std() == pytest.approx(1, rel=0.2)


def test_anomaly_only_branch_sees_the_defect_without_its_background():
    """Otherwise the branch that learned defects alone would be shown whole images: here the background is a thousand times as bright."""
    seen = {}

    def network(x_t, _t, branch, _mask):
        seen[branch] = x_t
        return torch.zeros_like(x_t)

    moves = [Transition(500, 400), Transition(400, 399), Transition(399, 398)]
    sample(network, constant(5000), half_mask(), moves=moves, rule=rule(intervals=PAPER_INTERVALS), draw=noise_source())
    assert seen["anomaly_aware"][OUTSIDE].min() > 100
    assert seen["anomaly_only"][OUTSIDE].abs().max() < 5


def test_resampling_asks_again_and_not_on_the_way_back():
    """Otherwise RePaint's cost would not be what its settings say: 20 steps, all but the first five walked three times."""
    spy = Spy()
    walk = resampling_transitions(timesteps(1000, 20, "uniform"), jump_length=5, resamplings=3)
    sample(spy, constant(0), half_mask(), moves=walk, rule=rule(known_region="fresh_resample"), draw=noise_source())
    assert len(spy.asked) == 5 + 15 * 3


def background_noise_levels(known_region, *, threshold, intervals=PAPER_INTERVALS):
    """Standard deviation of x_t - x_back outside the mask over its nominal value, by the paper's t; the network is perfect, x_back = 0."""
    shape = (1, 4, 48, 48)
    mask = torch.zeros(1, 1, 48, 48)
    mask[..., :4, :4] = 1
    levels = {}

    def network(x_t, t, branch, _mask):
        if branch == "anomaly_aware":
            levels[t + 1] = (x_t[..., 4:, :].std() / math.sqrt(1 - SCHEDULE.alpha_bar(t))).item()
        return x_t / math.sqrt(1 - SCHEDULE.alpha_bar(t))

    sample(
        network,
        torch.zeros(shape),
        mask,
        moves=transitions(timesteps(1000, 1000, "uniform")),
        rule=rule(intervals=intervals, threshold=threshold, known_region=known_region),
        draw=noise_source(8, shape, torch.float32),
    )
    return levels


@pytest.mark.parametrize(("known_region", "threshold"), [("posterior", None), ("posterior", 200), ("fresh", None)])
def test_background_noise_is_nominal(known_region, threshold):
    """Otherwise the network would be asked about noise levels that it never saw in training."""
    levels = background_noise_levels(known_region, threshold=threshold)
    assert len(levels) == 1000 - 201 - 101
    assert list(levels.values()) == pytest.approx([1.0] * len(levels), abs=0.05)


def test_fresh_background_under_a_soft_mask_loses_noise():
    """Otherwise the reason for our default would be untrue: Algorithm 1 to the letter averages two independent noises."""
    levels = background_noise_levels("fresh", threshold=200)
    assert {t: levels[t] for t in (799, 790, 600, 401)} == pytest.approx({799: 1.0, 790: 0.40, 600: 0.58, 401: 0.77}, abs=0.02)
    assert [levels[t] for t in range(200, 0, -20)] == pytest.approx([1.0] * 10, abs=0.05)
