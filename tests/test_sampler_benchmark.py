"""The benchmark of the sampler: what it counts, and that it runs."""

import pytest
import torch

from benchmarks import sampler
from benchmarks.accelerator import flops, ldm_flops
from benchmarks.networks import default_params, demo_generator, ldm_unet, with_values, work
from stage.model.adapter import MaskGuidanceAdapter


@pytest.fixture(scope="module")
def params():
    return sampler.small(default_params())


def test_operations_are_those_of_the_convolutions_by_hand():
    """Otherwise the share of the card's throughput would be a guess: a multiplication and an addition per weight and place."""
    adapter = MaskGuidanceAdapter(4, (8,), residual=False).eval()
    by_hand = 2 * 16 * 16 * (9 * 8 * 8 + 8 * 4)  # 3x3 from 2C = 8 to 8 channels, 1x1 from 8 to C = 4, on 16 x 16 cells
    assert flops(adapter, torch.zeros(1, 4, 16, 16), torch.zeros(1, 1, 16, 16)) == by_hand


def test_large_network_has_the_papers_size():
    """Otherwise the figures would be of another network: LDM text-to-image's U-Net has 872.3 million parameters."""
    assert sum(p.numel() for p in ldm_unet("meta").parameters()) == pytest.approx(872.3e6, abs=5e4)
    assert ldm_flops() > 1e11


@pytest.mark.parametrize(
    ("known_region", "steps", "expected"),
    [("posterior", 10, 10), ("fresh", 10, 10), ("fresh_resample", 10, 3 + 7 * 2), ("fresh_resample", 2, 2)],
)
def test_network_is_called_once_per_denoising_move(params, known_region, steps, expected):
    """Otherwise sampling would pay for calls it does not use; RePaint walks all but its first stretch of 3 twice, and back for nothing."""
    changes = {"known_region": known_region, "steps": steps, "jump_length": 3, "resamplings": 2}
    changed = with_values(params, synthesize=changes)
    job = work(demo_generator(changed), changed, side=sampler.grid_side(changed))
    assert sampler.calls(job, job.sampled) == sampler.denoising_moves(changed.synthesize) == expected


def test_bare_forwards_are_as_many_as_the_samplers(params):
    """Otherwise the overhead would be that over another amount of work, and its loop alone would still be paying for the network."""
    job = work(demo_generator(params), params, side=sampler.grid_side(params))
    assert [sampler.calls(job, action) for action in (job.bare, job.sampled, job.idle)] == [10, 10, 0]


@pytest.mark.slow
def test_benchmark_prints_its_tables(capsys):
    """Otherwise the figures in the documents could not be found again."""
    sampler.main("--quick")
    printed = capsys.readouterr().out
    for title in ("One network call a step", "Over bare U-Net and adapter forwards", "Encode, sample, decode and paste"):
        assert title in printed
    assert "GFLOP per image" in printed or torch.cuda.is_available()
