"""The noise of the background on its way through the sampler, for each `known_region`, named intervals and number of steps."""

import math
import re
from functools import cache
from pathlib import Path

import pytest
import torch
from diffusers import DDPMScheduler

from stage.core.params import load_params
from stage.model.base import noise_schedule, scheduler_config
from stage.model.diffusion import Composition, KnownRegion, SamplingRule, sample
from stage.model.schedule import resampling_transitions, timesteps, transitions

ROOT = Path(__file__).parents[1]
SCHEDULE = noise_schedule(DDPMScheduler(**scheduler_config(1000)))
SHAPE = (1, 4, 48, 48)
INTERVALS = {name: load_params(ROOT / "params" / f"{name}.yaml").synthesize.graded_intervals for name in ("paper-mvtec", "official-code")}
STEPS = (1000, 50, 10, 5)
TABLE = re.findall(r"^\| `(\w+)` \| `(paper-mvtec|official-code)` \| (.+) \|$", (ROOT / "docs/method.md").read_text(), flags=re.MULTILINE)
PAGE = {(region, name, count): float(cell) for region, name, row in TABLE for count, cell in zip(STEPS, row.split(" | "), strict=True)}


@cache
def levels(region: KnownRegion, name: str, steps: int, composition: Composition = "algorithm_1") -> dict[int, float]:
    """The least deviation of x_t - x_back outside the mask over its nominal value, by the paper's t.

    Of the states that the anomaly-aware branch is shown; the other is shown none of the background. The network estimates
    x_0 = x_back = 0, so that what is left of x_t is noise.
    """
    found: dict[int, float] = {}
    generator = torch.Generator().manual_seed(8)
    times = timesteps(1000, steps, "uniform")
    resampled = resampling_transitions(times, jump_length=10, resamplings=10)
    mask = torch.zeros(1, 1, *SHAPE[2:])
    mask[..., :4, :4] = 1

    def network(x_t: torch.Tensor, t: int, branch: str, _mask: torch.Tensor) -> torch.Tensor:
        nominal = math.sqrt(1 - SCHEDULE.alpha_bar(t))
        if branch == "anomaly_aware":
            found[t + 1] = min(found.get(t + 1, math.inf), x_t[..., 4:, :].std().item() / nominal)
        return x_t / nominal

    sample(
        network,
        torch.zeros(SHAPE),
        mask,
        moves=resampled if region == "fresh_resample" else transitions(times),
        rule=SamplingRule(SCHEDULE, INTERVALS[name], 200, region, composition),
        draw=lambda: torch.randn(SHAPE, generator=generator),
    )
    return found


def test_the_page_has_every_case() -> None:
    """A reader who picks a known region would not find what it does to the noise."""
    assert set(PAGE) == {
        (region, name, steps) for region in ("posterior", "fresh", "fresh_resample") for name in INTERVALS for steps in STEPS
    }


@pytest.mark.parametrize(("region", "name", "steps"), list(PAGE))
def test_the_lowest_level_is_the_pages(region: KnownRegion, name: str, steps: int) -> None:
    """The table, which is arithmetic of variances, would describe another sampler than ours."""
    assert min(levels(region, name, steps).values()) == pytest.approx(PAGE[region, name, steps], rel=0.05)


@pytest.mark.parametrize("name", INTERVALS)
@pytest.mark.parametrize("steps", STEPS)
def test_the_posterior_alone_keeps_the_level(name: str, steps: int) -> None:
    """The default would ask the network about noise levels that it never saw in training."""
    found = levels("posterior", name, steps)

    assert list(found.values()) == pytest.approx([1.0] * len(found), abs=0.05)


def test_fresh_noise_takes_the_level_down_where_the_papers_alignment_is_soft() -> None:
    """The reason for the default would be untrue: nominal down to 800, and again below t_s, low between."""
    found = levels("fresh", "paper-mvtec", 1000)

    assert [found[t] for t in (799, 790, 600, 401)] == pytest.approx([1.0, 0.40, 0.58, 0.77], abs=0.02)
    assert [found[t] for t in range(200, 0, -20)] == pytest.approx([1.0] * 10, abs=0.05)


@pytest.mark.parametrize("t", [700, 600, 500, 420])
def test_the_level_is_the_fixed_point_of_averaging_two_noises(t: int) -> None:
    """The page's formula would be no explanation: sigma^2 = zeta^2 sigma^2 + (1 - zeta)^2 gives sqrt((1 - zeta) / (1 + zeta))."""
    zeta = (t - 200) / 800

    assert levels("fresh", "paper-mvtec", 1000)[t] == pytest.approx(math.sqrt((1 - zeta) / (1 + zeta)), abs=0.02)


def test_the_released_codes_intervals_take_it_lower() -> None:
    """Its soft steps begin at once, where the mask is nearly all ones: 0.31 of nominal at the lowest."""
    assert min(levels("fresh", "official-code", 1000).values()) == pytest.approx(0.31, abs=0.02)


@pytest.mark.parametrize("name", INTERVALS)
def test_ten_steps_never_go_below_seven_tenths(name: str) -> None:
    """Few steps would do more harm to the noise than many, and not less."""
    assert min(levels("fresh", name, 10).values()) == pytest.approx(0.70, abs=0.02)


@pytest.mark.parametrize("name", INTERVALS)
def test_the_released_codes_weights_take_ten_steps_a_little_lower(name: str) -> None:
    """The page's 0.66 would be of nothing."""
    assert min(levels("fresh", name, 10, "released").values()) == pytest.approx(0.66, abs=0.02)
