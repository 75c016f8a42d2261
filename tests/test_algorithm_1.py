"""The sampler beside a transcription of Algorithm 1 that shares no code with it, given the same noise."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from benchmarks.algorithm_1 import algorithm_1
from stage.model.diffusion import SamplingRule, sample
from stage.model.schedule import NoiseSchedule, timesteps, transitions

T, THRESHOLD, INTERVALS = 50, 10, ((40, 50), (15, 20))  # the paper's 1000, 200, [800, 1000] and [300, 400], a twentieth of each
SHAPE = (2, 3, 8, 8)
BETAS = (torch.linspace(0.02**0.5, 0.4**0.5, T, dtype=torch.float64) ** 2).tolist()
SCHEDULE = NoiseSchedule(torch.cumprod(1 - torch.tensor(BETAS, dtype=torch.float64), 0))
KINDS = ("start", "posterior", "back", "mask")


def noise(kind: str, t: int) -> torch.Tensor:
    """One fixed draw for everything that Algorithm 1 draws, by what it is for and the paper's timestep."""
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(4 * t + KINDS.index(kind)), dtype=torch.float64)


def in_the_samplers_order(intervals: tuple[tuple[int, int], ...]) -> Iterator[torch.Tensor]:
    """The same draws as `sample` asks for them: the defect's surroundings only where the anomaly-only branch starts from them."""
    yield noise("start", T)
    for t in range(T, 0, -1):
        if any(low <= t <= high for low, high in intervals):
            # Algorithm 1 begins with x_T^p = x_T; here it is noise of the level that T has, which is a little under one.
            yield noise("mask", t) if t < T else noise("start", T) / (1 - SCHEDULE.alpha_bar(T - 1)) ** 0.5
        yield noise("posterior", t - 1)
        yield noise("back", t - 1)


@pytest.fixture
def network():
    """A fixed function of everything a network is given, of about unit size: a random convolution, moved by time, branch and mask."""
    with torch.random.fork_rng():
        torch.manual_seed(7)
        layers = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.Tanh(), nn.Conv2d(8, 3, 3, padding=1)).double().requires_grad_(False)

    def predict(x_t, t, branch, mask):
        shift = 0.3 if branch == "anomaly_only" else -0.2
        return x_t / 2 + layers(torch.cat([x_t, mask * (1 + t / T)], dim=1)) + shift

    return predict


@pytest.fixture
def inputs():
    """A background and two masks of different size."""
    mask = torch.zeros(2, 1, 8, 8, dtype=torch.float64)
    mask[0, 0, 2:5, 3:7] = 1
    mask[1, 0, 6, 1] = 1
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64), mask


def sampled(network, inputs, *, intervals=INTERVALS, **changes):
    settings = {"alignment_threshold": THRESHOLD, "known_region": "fresh", "composition": "algorithm_1"} | changes
    draws = in_the_samplers_order(intervals)
    return sample(
        network,
        *inputs,
        moves=transitions(timesteps(T, T, "uniform")),
        rule=SamplingRule(schedule=SCHEDULE, graded_intervals=intervals, **settings),
        draw=lambda: next(draws),
    )


def printed(network, inputs, intervals=INTERVALS):
    def from_one(x_t, t, branch, mask):
        return network(x_t, t - 1, branch, mask)  # the paper counts from 1, a network from 0

    return algorithm_1(from_one, *inputs, noise, betas=BETAS, intervals=intervals, t_s=THRESHOLD)


@pytest.mark.parametrize(
    "intervals",
    [INTERVALS, (), ((1, T),), ((1, 5),), ((30, 30), (28, 28))],
    ids=["the paper's", "none", "all the way", "down to the last step", "single steps"],
)
def test_sampler_is_algorithm_1(network, inputs, intervals):
    """Otherwise what is called the paper's sampling would not be what the paper prints."""
    found, expected = sampled(network, inputs, intervals=intervals), printed(network, inputs, intervals)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-9)
    assert found.abs().max() < 100  # no explosion in which everything would look alike


@pytest.mark.parametrize("change", [{"composition": "equation_7"}, {"composition": "released"}, {"alignment_threshold": None}])
def test_transcription_can_tell_the_settings_apart(network, inputs, change):
    """Otherwise the agreement would say nothing: another reading of the paper gives other images from the same noise."""
    assert (sampled(network, inputs, **change) - printed(network, inputs)).abs().max() > 1e-3
