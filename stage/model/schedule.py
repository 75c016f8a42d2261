"""The noise schedule, Explicit Mask Alignment and the branches, as functions of the timestep.

Shapes: B batch, C latent channels, h w latent size. Masks (B, 1, h, w) in [0, 1], 1 = defect.
Timesteps are 0-based, 0 ... T-1, as in diffusers; -1 means free of noise. The paper counts 1 ... T:
`paper_timestep` is the only conversion.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple, TypeVar

import torch
from torch import Tensor

from stage.core.errors import ConfigError

Branch = Literal["anomaly_aware", "anomaly_only"]
Spacing = Literal["uniform", "coarse_to_fine"]
CLEAN = -1
Steps = TypeVar("Steps", int, Tensor)


class Transition(NamedTuple):
    """One move of a sampler, from timestep t to s; s < t denoises, s > t adds noise back."""

    t: int
    s: int


class NoiseSchedule(NamedTuple):
    """The products alpha_bar_t of a diffusion model: (T,) float64, decreasing in (0, 1)."""

    alpha_bars: Tensor

    @property
    def timestep_count(self) -> int:
        """The number of timesteps, T."""
        return len(self.alpha_bars)

    def alpha_bar(self, t: int) -> float:
        """alpha_bar_t; 1 if t is CLEAN."""
        return 1.0 if t == CLEAN else self.alpha_bars[t].item()


def paper_timestep(t: Steps) -> Steps:
    """The paper's number, 0 ... T, of a 0-based timestep, or of a tensor of them."""
    return t + 1


def timesteps(timestep_count: int, steps: int, spacing: Spacing) -> list[int]:
    """`steps` timesteps from T-1 downwards; the step from the last one leads to CLEAN.

    `uniform` timesteps are T/steps apart. `coarse_to_fine` ones, counted from 1, are T (k/steps)^2 for k = steps ... 1, but at least k:
    long steps through noise, short ones where details form. With T steps, both give every timestep.
    """
    if not 1 <= steps <= timestep_count:
        raise ConfigError(
            f"Expected 1 to {timestep_count} sampling steps, found {steps}, in synthesize.steps. Choose a value in that range."
        )
    power = 2 if spacing == "coarse_to_fine" else 1
    return [max(k, round(timestep_count * (k / steps) ** power)) - 1 for k in range(steps, 0, -1)]


def transitions(times: Sequence[int]) -> list[Transition]:
    """The moves along decreasing timesteps, down to CLEAN."""
    return [Transition(t, s) for t, s in zip(times, [*times[1:], CLEAN], strict=True)]


def resampling_transitions(times: Sequence[int], *, jump_length: int, resamplings: int) -> list[Transition]:
    """RePaint's moves (Lugmayr et al. 2022): each `jump_length` moves but the first are undone and repeated `resamplings` - 1 times."""
    moves = transitions(times)
    walk = moves[:jump_length]
    for start in range(jump_length, len(moves), jump_length):
        run = moves[start : start + jump_length]
        back = Transition(run[-1].s, run[0].t)
        walk += [*run, back] * (resamplings - 1) + run
    return walk


def alignment_weight(t: int, *, threshold: int, timestep_count: int) -> float:
    """zeta(t) of Eq. 8: 1 at t = T, 0 at and below the threshold t_s, linear between."""
    above = paper_timestep(t) - threshold
    return above / (timestep_count - threshold) if above > 0 else 0.0


def alignment_mask(defect_mask: Tensor, t: int, *, threshold: int | None, timestep_count: int) -> Tensor:
    """Explicit-alignment mask M_t^p (Eq. 8); not a moving average. (B, 1, h, w) in [0, 1].

    A threshold of None keeps it binary (the ablation without alignment).
    """
    if threshold is None:
        return defect_mask
    zeta = alignment_weight(t, threshold=threshold, timestep_count=timestep_count)
    return zeta * (1 - defect_mask) + defect_mask


def branch_of(move: Transition, graded_intervals: Sequence[tuple[int, int]]) -> Branch:
    """The branch that makes a step; intervals are the paper's (low, high), ends included (Algorithm 1; IV-A has two).

    Anomaly-only if the step starts inside an interval or jumps over a whole one, so that a walk of few steps skips no interval.
    """
    t, s = paper_timestep(move.t), paper_timestep(move.s)
    is_graded = any(low <= t <= high or (s < low and high < t) for low, high in graded_intervals)
    return "anomaly_only" if is_graded else "anomaly_aware"


def training_alignment_masks(defect_mask: Tensor, t: Tensor, *, threshold: int | None, timestep_count: int) -> Tensor:
    """`alignment_mask` with one timestep per row: t (B,) int64."""
    rows = [alignment_mask(m, int(k), threshold=threshold, timestep_count=timestep_count) for m, k in zip(defect_mask, t, strict=True)]
    return torch.stack(rows)
