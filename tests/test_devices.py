"""What holds on every device: tried on the CPU everywhere, and on a GPU by `pytest -m requires_gpu`, which benchmarks/on_gpu.sh runs."""

from pathlib import Path

import pytest
import torch
from miniatures import defect_images, small_base, small_params
from source_tree import ROOT

from benchmarks.networks import default_params, demo_generator, with_values, work
from stage.chaos.miniature import CATEGORY, make_miniature
from stage.core.errors import ConfigError
from stage.core.params import load_params
from stage.jobs.job import load_job
from stage.jobs.planning import make_job
from stage.jobs.store import BatchStore
from stage.model.training import Trained, train
from stage.nights.machine import gpu
from stage.synthesis.recipe import recipe_of


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.requires_gpu)])
def device(request: pytest.FixtureRequest) -> str:
    return request.param


def sampled(device: str, **synthesize: object) -> torch.Tensor:
    """Latents of two samples in four steps of a fresh network, (2, C, 16, 16), on the CPU."""
    small = {"pretrain": {"widths": (16, 16)}, "train": {"adapter_widths": (8,)}}
    wanted = {"batch": 2, "steps": 4, "precision": "float32", "compiled": False, **synthesize}
    params = with_values(default_params(), **small, synthesize=wanted)
    return work(demo_generator(params), params, side=16, device=device).sampled().cpu()


def trained(device: str, folder: Path, precision: str) -> Trained:
    params = with_values(small_params(iterations=2, precision=precision), execution={"device": device})
    return train(small_base(), defect_images(), params, state=folder / f"{device}-{precision}.safetensors")


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Relative to what is expected, as root mean squares."""
    return float((found - expected).norm() / expected.norm())


def test_the_same_seeds_give_the_same_samples_bit_for_bit(device: str) -> None:
    """Otherwise two workers on one kind of device would publish different data sets of one plan."""
    assert torch.equal(sampled(device), sampled(device))


def test_low_precision_stays_near_full_precision(device: str) -> None:
    """Otherwise a GPU's samples, which are made in bfloat16 by default, would be those of another model."""
    found = difference(sampled(device, precision="bfloat16"), sampled(device))

    assert 0 < found < 0.01


def test_trains_in_low_precision_as_in_full(device: str, tmp_path: Path) -> None:
    """Otherwise `train.precision: auto` would train another model on a GPU than on the CPU, or overflow."""
    low, full = (trained(device, tmp_path, precision).curve["loss"].to_numpy() for precision in ("bfloat16", "float32"))

    assert low == pytest.approx(full, rel=0.05)
    assert (low != full).any()


@pytest.mark.requires_gpu
def test_a_gpu_gives_the_samples_of_the_cpu_but_for_rounding() -> None:
    """Otherwise what was tried on a CPU would say nothing about the samples of a GPU: noise is drawn on the CPU for both."""
    assert difference(sampled("cuda"), sampled("cpu")) < 0.01


@pytest.mark.requires_gpu
def test_a_compiled_network_gives_the_samples_of_the_plain_one() -> None:
    """Otherwise `synthesize.compiled` would be more than a matter of speed."""
    compiled = sampled("cuda", precision="bfloat16", compiled=True)

    assert difference(compiled, sampled("cuda", precision="bfloat16")) < 0.01


@pytest.mark.requires_gpu
def test_float16_trains_as_float32_does(tmp_path: Path) -> None:
    """Otherwise cards without bfloat16 would not train: float16 needs its gradients scaled, by torch's CUDA code."""
    low, full = (trained("cuda", tmp_path, precision).curve["loss"].to_numpy() for precision in ("float16", "float32"))

    assert low == pytest.approx(full, rel=0.05)


@pytest.mark.requires_gpu
def test_a_job_of_another_device_is_refused(tmp_path: Path) -> None:
    """Otherwise a CPU would finish what a GPU began, with other last bits."""
    made = make_miniature(tmp_path, load_params(ROOT / "params.yaml"))  # planned for the CPU
    recipe = recipe_of("stage", CATEGORY, made.params, catalog=made.catalog, base=made.base, checkpoint=made.checkpoint)
    job = load_job(make_job(recipe, BatchStore(tmp_path / "spool")))

    with pytest.raises(ConfigError, match="device: cpu, now "):
        job.check("cuda")


@pytest.mark.requires_gpu
def test_doctor_finds_the_gpu_in_order() -> None:
    """Otherwise the night would warn of a GPU that works."""
    found = list(gpu(with_values(default_params(), execution={"device": "cuda"})))

    assert found
    assert "fails" not in {one.level for one in found}
