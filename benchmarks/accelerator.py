"""What a GPU makes of the LDM-size network: bfloat16, compiled and channels-last against plain float32, and the card's own limit.

Floating-point operations are counted, a multiplication and an addition as two; the card's throughput is measured in the same run.
"""

import gc
from typing import NamedTuple

import torch
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.networks import LDM_TEXT, LDM_UNET, RELEASED_WIDTHS, ldm_unet, ldm_work, with_values
from benchmarks.overhead import overhead, seconds
from stage.core.params import Params
from stage.model.adapter import MaskGuidanceAdapter

BATCH, STEPS, ROUNDS = 32, 10, 3
MATRIX = 8192  # rows and columns of the product that stands for the card's limit


class Speed(NamedTuple):
    """Denoising steps of one image per second, memory at its highest in bytes, operations per second, the loop over bare forwards."""

    steps_per_s: float
    peak_bytes: int
    flops_per_s: float
    overhead: float


WAYS = {
    "float32, eager, torch's defaults": {"precision": "float32", "compiled": False},
    "bfloat16, compiled, channels-last": {"precision": "bfloat16", "compiled": True},
}


def table(params: Params) -> Table:
    """Both ways side by side; needs a GPU."""
    limit, columns = (
        matrix_flops_per_s(),
        ("image steps/s", "images/s of 1000 steps", "of 50", "peak memory, GiB", "TFLOP/s", "of the card's", "loop's overhead"),
    )
    found = Table("LDM-size network", *columns)
    speeds = {name: measured(with_values(params, synthesize={**way, "batch": BATCH, "steps": STEPS})) for name, way in WAYS.items()}
    for name, speed in speeds.items():
        rates = (f"{speed.steps_per_s / steps:.1f}" for steps in (1, 1000, 50))
        memory, share = speed.peak_bytes / 2**30, speed.flops_per_s / limit
        found.add_row(name, *rates, f"{memory:.1f}", f"{speed.flops_per_s / 1e12:.1f}", f"{share:.0%}", f"{speed.overhead:+.1%}")
    plain, ours = (speed.steps_per_s for speed in speeds.values())
    found.title = f"{torch.cuda.get_device_name()}, batch {BATCH}: {ours / plain:.2f} times as many images"
    found.caption = f"the card's: {limit / 1e12:.0f} TFLOP/s in a bfloat16 product of {MATRIX} x {MATRIX} matrices"
    return found


def measured(params: Params) -> Speed:
    """The fastest of a few rounds of the sampling loop, after one that compiles and warms up."""
    gc.collect()  # the network before this one, so that its memory is not counted here
    job = ldm_work(params, ldm_unet("cpu"), "cuda")
    job.sampled()
    torch.cuda.reset_peak_memory_stats()
    rate = BATCH * STEPS / min(seconds(job.sampled) for _ in range(ROUNDS))
    memory = torch.cuda.max_memory_allocated()
    return Speed(rate, memory, rate * ldm_flops(), overhead(job, ROUNDS).sampled)


def matrix_flops_per_s() -> float:
    """What a large bfloat16 matrix product reaches on this card."""
    left, right = (torch.randn(MATRIX, MATRIX, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        torch.matmul(left, right)
    calls = 20
    fastest = min(seconds(lambda: [torch.matmul(left, right) for _ in range(calls)]) for _ in range(ROUNDS))
    return 2 * MATRIX**3 * calls / fastest


def ldm_flops() -> int:
    """Operations of one network call for one image: the U-Net and an adapter, counted on shapes alone."""
    unet = ldm_unet("meta")
    side, channels = LDM_UNET["sample_size"], LDM_UNET["in_channels"]
    with torch.device("meta"):
        adapter = MaskGuidanceAdapter(channels, RELEASED_WIDTHS, residual=False).eval()
        latents, mask, text = torch.empty(1, channels, side, side), torch.empty(1, 1, side, side), torch.empty(1, *LDM_TEXT)
        t = torch.zeros(1, dtype=torch.int64)
    return flops(unet, latents, t, text) + flops(adapter, latents, mask)


def flops(network: nn.Module, *inputs: Tensor) -> int:
    """Operations of one call."""
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(*inputs)
    return counter.get_total_flops()
