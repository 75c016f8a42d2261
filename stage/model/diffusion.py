"""The forward process, the posterior and STAGE's sampling loop: Algorithm 1 with Eq. 2 to 7, for any decreasing timesteps.

Shapes: B batch, C latent channels, h w latent size; latents (B, C, h, w); masks (B, 1, h, w) in [0, 1], 1 = defect.
Timesteps t and s are 0-based; CLEAN (-1) is free of noise. Deviations from the paper are noted at the line.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from stage.model.schedule import Branch, NoiseSchedule, Transition, alignment_mask, branch_of

KnownRegion = Literal["posterior", "fresh", "fresh_resample", "redrawn"]
Composition = Literal["algorithm_1", "equation_7", "released"]
PredictNoise = Callable[[Tensor, int, Branch, Tensor], Tensor]
"""(x_t, t, branch, the branch's mask) -> eps, (B, C, h, w). One network call."""
Draw = Callable[[], Tensor]
"""Standard normal noise (B, C, h, w), every row from its own generator."""


class Gaussian(NamedTuple):
    """Mean (B, C, h, w) and standard deviation of an isotropic normal distribution."""

    mean: Tensor
    std: float

    def sample(self, noise: Tensor) -> Tensor:
        """A draw from the distribution; `noise` is standard normal."""
        return self.mean + self.std * noise


@dataclass(frozen=True)
class SamplingRule:
    """The settings of Algorithm 1. `alignment_threshold` None keeps the alignment mask binary."""

    schedule: NoiseSchedule
    graded_intervals: tuple[tuple[int, int], ...]
    alignment_threshold: int | None
    known_region: KnownRegion
    composition: Composition = "algorithm_1"
    mask_noise: Literal["per_channel", "shared"] = "per_channel"
    last_step: Literal["exact", "noisy"] = "exact"
    x_0_bounds: tuple[Tensor, Tensor] | None = None

    def aligned(self, defect_mask: Tensor, t: int) -> Tensor:
        """The alignment mask M_t^p."""
        return alignment_mask(defect_mask, t, threshold=self.alignment_threshold, timestep_count=self.schedule.timestep_count)

    def fused(self, defect_mask: Tensor, move: Transition, inside: Tensor, outside: Tensor) -> Tensor:
        """Defect and background composed by the alignment mask (Eq. 7); Algorithm 1 uses the target's mask, M_{t-1}^p, for both.

        Eq. 7 prints M_t^p for the defect, so that the weights do not sum to one; the released code has M_t^p for both.
        """
        of_inside = self.aligned(defect_mask, move.s if self.composition == "algorithm_1" else move.t)
        of_outside = self.aligned(defect_mask, move.t if self.composition == "released" else move.s)
        return of_inside * inside + (1 - of_outside) * outside


def q_sample(x_0: Tensor, t: int, noise: Tensor, schedule: NoiseSchedule) -> Tensor:
    """x_t ~ q(x_t | x_0)."""
    alpha_bar = schedule.alpha_bar(t)
    return math.sqrt(alpha_bar) * x_0 + math.sqrt(1 - alpha_bar) * noise


def noised(x_0: Tensor, t: Tensor, noise: Tensor, schedule: NoiseSchedule) -> Tensor:
    """x_t ~ q(x_t | x_0) with one timestep per row: t (B,) int64."""
    alpha_bar = _per_row(schedule, t, x_0)
    return alpha_bar.sqrt() * x_0 + (1 - alpha_bar).sqrt() * noise


def noise_excess(difference: Tensor, t: Tensor, schedule: NoiseSchedule) -> Tensor:
    """The extra noise in x_t if it is to lead to another x_0: sqrt(alpha_bar / (1 - alpha_bar)) times the difference of the two."""
    alpha_bar = _per_row(schedule, t, difference)
    return alpha_bar.sqrt() * difference / (1 - alpha_bar).sqrt()


def velocity(x_0: Tensor, t: Tensor, noise: Tensor, schedule: NoiseSchedule, deviation: Tensor | float = 1.0) -> Tensor:
    """V = sqrt(alpha_bar) eps - sqrt(1 - alpha_bar) x_0 (Salimans and Ho 2022), with one timestep per row.

    `deviation` (C, 1, 1): of each latent channel. With it, V has variance one in every channel at every timestep, as the target of
    Karras et al. (2022, Table 1) does; at deviation 1 both are the same.
    """
    alpha_bar = _per_row(schedule, t, x_0)
    return (alpha_bar.sqrt() * deviation * noise - (1 - alpha_bar).sqrt() * x_0 / deviation) / _spread(alpha_bar, deviation)


def noise_from_velocity(v: Tensor, x_t: Tensor, t: Tensor | int, schedule: NoiseSchedule, deviation: Tensor | float = 1.0) -> Tensor:
    """The noise estimate that equals a velocity estimate: sqrt(alpha_bar) v + sqrt(1 - alpha_bar) x_t, if `deviation` is 1."""
    alpha_bar = _per_row(schedule, torch.as_tensor(t), x_t)
    spread = _spread(alpha_bar, deviation)
    return alpha_bar.sqrt() * deviation / spread * v + (1 - alpha_bar).sqrt() / spread**2 * x_t


def of_unit_variance(x_t: Tensor, t: Tensor | int, schedule: NoiseSchedule, deviation: Tensor | float) -> Tensor:
    """x_t with variance one in every channel: what a network that predicts `velocity` by `deviation` is shown."""
    return x_t / _spread(_per_row(schedule, torch.as_tensor(t), x_t), deviation)


def _spread(alpha_bar: Tensor, deviation: Tensor | float) -> Tensor | float:
    """The deviation of x_t in each channel: sqrt(alpha_bar deviation^2 + 1 - alpha_bar)."""
    if isinstance(deviation, float) and deviation == 1.0:
        return 1.0  # exactly
    return (alpha_bar * deviation**2 + 1 - alpha_bar).sqrt()


def _per_row(schedule: NoiseSchedule, t: Tensor, like: Tensor) -> Tensor:
    return schedule.alpha_bars[t.to(schedule.alpha_bars.device)].to(like).reshape(-1, 1, 1, 1)


def renoise(x_t: Tensor, move: Transition, noise: Tensor, schedule: NoiseSchedule) -> Tensor:
    """x_s ~ q(x_s | x_t) for s > t: the forward step of RePaint's resampling."""
    kept = schedule.alpha_bar(move.s) / schedule.alpha_bar(move.t)
    return math.sqrt(kept) * x_t + math.sqrt(1 - kept) * noise


def predict_x_0(x_t: Tensor, eps: Tensor, t: int, schedule: NoiseSchedule) -> Tensor:
    """The x_0 estimate that a noise estimate implies."""
    alpha_bar = schedule.alpha_bar(t)
    return (x_t - math.sqrt(1 - alpha_bar) * eps) / math.sqrt(alpha_bar)


def posterior(x_t: Tensor, x_0: Tensor, move: Transition, schedule: NoiseSchedule) -> Gaussian:
    """q(x_s | x_t, x_0): Eq. 2 for s = t - 1, and the composition of its unit steps for any s < t."""
    bar_t, bar_s = schedule.alpha_bar(move.t), schedule.alpha_bar(move.s)
    a = bar_t / bar_s
    # Coefficients in float64: for the step to CLEAN they are exactly 1 and 0, and it returns x_0 bit for bit.
    of_x_0 = math.sqrt(bar_s) * (1 - a) / (1 - bar_t)
    of_x_t = math.sqrt(a) * (1 - bar_s) / (1 - bar_t)
    return Gaussian(of_x_0 * x_0 + of_x_t * x_t, math.sqrt((1 - a) * (1 - bar_s) / (1 - bar_t)))


def compose(mask: Tensor, inside: Tensor, outside: Tensor) -> Tensor:
    """`inside` within the mask and `outside` beyond it: mask * inside + (1 - mask) * outside (Eq. 3)."""
    return mask * inside + (1 - mask) * outside


def sample(
    predict_noise: PredictNoise,
    x_back: Tensor,
    defect_mask: Tensor,
    *,
    moves: Sequence[Transition],
    rule: SamplingRule,
    draw: Draw,
    start: Tensor | None = None,
) -> Tensor:
    """x_0 (B, C, h, w) of images that show a defect inside `defect_mask` and `x_back` elsewhere (Algorithm 1).

    `start` (B, C, h, w), not in the paper: the first x_t is that image with the noise of the first timestep (SDEdit, Meng et al. 2022).
    With a known region that is `redrawn`, the surroundings are drawn from it too, and nearly those of `start`.
    """
    x_t = draw() if start is None else q_sample(start, moves[0].t, draw(), rule.schedule)
    for move in moves:
        x_t = _moved(predict_noise, x_t, x_back, defect_mask, move=move, rule=rule, draw=draw)
    return x_t


def _moved(
    predict_noise: PredictNoise, x_t: Tensor, x_back: Tensor, defect_mask: Tensor, *, move: Transition, rule: SamplingRule, draw: Draw
) -> Tensor:
    if move.s > move.t:
        return renoise(x_t, move, draw(), rule.schedule)
    if branch_of(move, rule.graded_intervals) == "anomaly_only":
        x_t_p = isolated(x_t, defect_mask, move.t, rule, draw)
        eps = predict_noise(x_t_p, move.t, "anomaly_only", defect_mask)
        return graded_step(x_t, x_t_p, eps, x_back, defect_mask, move=move, rule=rule, draw=draw)
    eps = predict_noise(x_t, move.t, "anomaly_aware", rule.aligned(defect_mask, move.t))
    return aware_step(x_t, eps, x_back, defect_mask, move=move, rule=rule, draw=draw)


def isolated(x_t: Tensor, defect_mask: Tensor, t: int, rule: SamplingRule, draw: Draw) -> Tensor:
    """x_t^p of Eq. 7: `x_t` inside the mask, M_t ~ q(M_t | M_0) outside it; since M_0 = 0 there, that is noise of the right level.

    Algorithm 1 updates x^p after every step. Inside the mask it equals the image after either kind of step, and outside it is
    drawn anew each time, so it is computed here, when an anomaly-only step needs it.
    Algorithm 1 also writes a one-channel mask into a C-channel latent, and the released code copies one noise to all channels
    (`shared`); the network was trained on noise drawn `per_channel`.
    """
    noise = draw()
    noise = noise[:, :1].expand_as(noise) if rule.mask_noise == "shared" else noise
    return compose(defect_mask, x_t, q_sample(defect_mask.expand_as(x_t), t, noise, rule.schedule))


def graded_step(
    x_t: Tensor, x_t_p: Tensor, eps: Tensor, x_back: Tensor, defect_mask: Tensor, *, move: Transition, rule: SamplingRule, draw: Draw
) -> Tensor:
    """x_s of the anomaly-only branch (Eq. 7, first case): the defect alone is denoised, then composed with the background."""
    # 1. The defect alone; the posterior outside the mask is not used.
    x_0_hat = _bounded(predict_x_0(x_t_p, eps, move.t, rule.schedule), rule)
    x_s_p = posterior(x_t_p, x_0_hat, move, rule.schedule).sample(draw())
    # 2. The background at the same noise level: its own trajectory, or, as in Algorithm 1, drawn anew.
    if rule.known_region in ("posterior", "redrawn"):
        return compose(defect_mask, x_s_p, posterior(x_t, x_back, move, rule.schedule).sample(draw()))
    return compose(defect_mask, x_s_p, _fresh_background(x_back, move, rule, draw))


def aware_step(
    x_t: Tensor, eps: Tensor, x_back: Tensor, defect_mask: Tensor, *, move: Transition, rule: SamplingRule, draw: Draw
) -> Tensor:
    """x_s of the anomaly-aware branch (Eq. 7, second case) by Anomaly Inference (Eq. 3 to 6)."""
    # 1. Compose in x_0, then the posterior.
    x_0_hat = _bounded(predict_x_0(x_t, eps, move.t, rule.schedule), rule)
    if rule.known_region == "redrawn":  # not in the paper: nothing of x_back is put into the image
        return posterior(x_t, x_0_hat, move, rule.schedule).sample(draw())
    x_s = posterior(x_t, rule.fused(defect_mask, move, x_0_hat, x_back), move, rule.schedule).sample(draw())
    # 2. Algorithm 1 also pastes freshly noised background. With a soft mask, this averages two independent noises, whose
    #    level then falls below all that training has seen, so `posterior` leaves it out.
    if rule.known_region == "posterior":
        return x_s
    return rule.fused(defect_mask, move, x_s, _fresh_background(x_back, move, rule, draw))


def _fresh_background(x_back: Tensor, move: Transition, rule: SamplingRule, draw: Draw) -> Tensor:
    """x_s^back ~ q(x_s | x_back); in the last step, the released code keeps the noise of timestep 0 (`noisy`)."""
    return q_sample(x_back, max(move.s, 0) if rule.last_step == "noisy" else move.s, draw(), rule.schedule)


def _bounded(x_0: Tensor, rule: SamplingRule) -> Tensor:
    return x_0 if rule.x_0_bounds is None else x_0.clamp(*rule.x_0_bounds)
