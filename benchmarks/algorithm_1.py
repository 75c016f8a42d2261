"""Algorithm 1 as the paper prints it: the plain reference that `stage.model.diffusion` is measured and tested against.

Written from sections III-A to III-C alone and shares no code with `stage`. One unit step at a time, T = 1000 in the paper.
Timesteps are the paper's, T ... 1, and 0 is clean. Latents (B, C, h, w), masks (B, 1, h, w) in {0, 1}, 1 = defect.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

Branch = Literal["anomaly_aware", "anomaly_only"]
Network = Callable[[Tensor, int, Branch, Tensor], Tensor]
"""(x_t, t, branch, the branch's mask) -> noise estimate; one network call."""
Noise = Callable[[str, int], Tensor]
"""(of what, at which timestep) -> standard normal noise, (B, C, h, w)."""


def alignment(m_0: Tensor, t: int, t_s: int, timestep_count: int) -> Tensor:
    """M_t^p (Eq. 8)."""
    zeta = (t - t_s) / (timestep_count - t_s) if t > t_s else 0.0
    return zeta * (1 - m_0) + m_0


def q(x_0: Tensor, t: int, noise: Tensor, alpha_bar: Sequence[float]) -> Tensor:
    """x_t by the forward process."""
    return alpha_bar[t] ** 0.5 * x_0 + (1 - alpha_bar[t]) ** 0.5 * noise


def p(x_t: Tensor, x_0: Tensor, t: int, noise: Tensor, beta: float, alpha_bar: Sequence[float]) -> Tensor:
    """x_{t-1} by Eq. 2, with the posterior's variance."""
    bar, before = alpha_bar[t], alpha_bar[t - 1]
    mean = before**0.5 * beta / (1 - bar) * x_0 + (1 - beta) ** 0.5 * (1 - before) / (1 - bar) * x_t
    return mean + ((1 - before) / (1 - bar) * beta) ** 0.5 * noise


def algorithm_1(
    network: Network, x_back: Tensor, m_0: Tensor, noise: Noise, *, betas: Sequence[float], intervals: Sequence[tuple[int, int]], t_s: int
) -> Tensor:
    """x_0 (B, C, h, w): Algorithm 1 line by line, with every draw that it names in every iteration."""
    count = len(betas)
    alpha_bar = [1.0, *torch.cumprod(1 - torch.tensor(betas, dtype=torch.float64), 0).tolist()]
    x_t = noise("start", count)
    x_p = x_t
    for t in range(count, 0, -1):
        m_p, m_p_next = alignment(m_0, t, t_s, count), alignment(m_0, t - 1, t_s, count)
        back = q(x_back, t - 1, noise("back", t - 1), alpha_bar)
        # A mask of one channel in a latent of C: noised in each, as in training.
        m_next = q(m_0.expand_as(x_back), t - 1, noise("mask", t - 1), alpha_bar)
        is_only = any(low <= t <= high for low, high in intervals)
        x, branch, mask = (x_p, "anomaly_only", m_0) if is_only else (x_t, "anomaly_aware", m_p)
        x_0 = (x - (1 - alpha_bar[t]) ** 0.5 * network(x, t, branch, mask)) / alpha_bar[t] ** 0.5
        if is_only:
            x_p = p(x_p, m_0 * x_0, t, noise("posterior", t - 1), betas[t - 1], alpha_bar)
            x_p = m_0 * x_p + (1 - m_0) * m_next
            x_t = m_0 * x_p + (1 - m_0) * back
        else:
            x_0 = m_p_next * x_0 + (1 - m_p_next) * x_back  # Anomaly Inference, Eq. 3 to 6
            x_t = p(x_t, x_0, t, noise("posterior", t - 1), betas[t - 1], alpha_bar)
            x_t = m_p_next * x_t + (1 - m_p_next) * back
            x_p = m_0 * x_t + (1 - m_0) * m_next
    return x_t
