"""What a GPU makes of the LDM-size network: bfloat16, compiled and channels-last against plain float32, and the card's own limit.

`python -m benchmarks.accelerator`, on a machine with a GPU that does nothing else; each row is printed as soon as it is measured.
`--miniature` tries every part but the compiler, which takes minutes, on the CPU with the demo's network, narrow, and measures nothing of use.
Floating-point operations are counted, a multiplication and an addition as two; the card's throughput is measured in the same run.
"""

import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.networks import (
    LDM_TEXT,
    LDM_UNET,
    RELEASED_WIDTHS,
    Work,
    default_params,
    demo_generator,
    ldm_unet,
    ldm_work,
    with_values,
    work,
)
from benchmarks.overhead import overhead, seconds
from stage.core.params import Params
from stage.model.adapter import MaskGuidanceAdapter

ROUNDS = 3


class Scale(NamedTuple):
    """What is sampled and where; `matrix` is the side of the product that stands for the device's limit, `flops` are of a call per image."""

    device: str
    ways: Mapping[str, Mapping[str, object]]
    batch: int
    steps: int
    matrix: int
    work: Callable[[Params], Work]
    flops: Callable[[], int]


class Speed(NamedTuple):
    """Denoising steps of one image per second, memory at its highest in bytes (0 without a GPU), operations per second, loop over bare forwards."""

    steps_per_s: float
    peak_bytes: int
    flops_per_s: float
    overhead: float


PLAIN = {"float32, eager, torch's defaults": {"precision": "float32", "compiled": False}}
WAYS = {**PLAIN, "bfloat16, compiled, channels-last": {"precision": "bfloat16", "compiled": True}}
SMALL_WAYS = {**PLAIN, "bfloat16, eager": {"precision": "bfloat16", "compiled": False}}
COLUMNS = ("image steps/s", "images/s of 1000 steps", "of 50", "peak memory, GiB", "TFLOP/s", "of the limit", "loop's overhead")


def main(*options: str) -> None:
    """Print the limit, a line for each way, and the table of both."""
    scale = miniature() if "--miniature" in options else ldm()
    Console(width=160).print(table(default_params(), scale, say=partial(print, flush=True)))


def ldm() -> Scale:
    """The LDM's network on the GPU."""
    return Scale("cuda", WAYS, 32, 10, 8192, lambda params: ldm_work(params, ldm_unet("cpu"), "cuda"), ldm_flops)


def miniature() -> Scale:
    """The demo's network, narrow, on the CPU."""
    side, widths = 8, {"pretrain": {"widths": (16, 16)}, "train": {"adapter_widths": (8,)}}

    def small(params: Params) -> Work:
        changed = with_values(params, **widths)
        return work(demo_generator(changed), changed, side=side)

    def counted() -> int:
        job = small(with_values(default_params(), synthesize={"batch": 1, "compiled": False}))
        base = job.renderer.generator.base
        return flops(base.unet, job.x_back, torch.zeros(1, dtype=torch.int64), job.renderer.conditions["anomaly_aware"][:1])

    return Scale("cpu", SMALL_WAYS, 1, 2, 256, small, counted)


def table(params: Params, scale: Scale, *, say: Callable[[str], None] = lambda _: None) -> Table:
    """Both ways side by side; `say` gets each row as soon as it is measured, should a short lease end before the last."""
    name = torch.cuda.get_device_name() if scale.device == "cuda" else "CPU, in miniature"
    limit = matrix_flops_per_s(scale)
    found = Table("network", *COLUMNS, caption=f"the limit: that of a bfloat16 product of {scale.matrix} x {scale.matrix} matrices")
    say(f"{name}: {limit / 1e12:.3g} TFLOP/s in a bfloat16 product of {scale.matrix} x {scale.matrix} matrices, the limit")
    rates: list[float] = []
    for way, speed in speeds(params, scale):
        cells = told(speed, limit)
        found.add_row(way, *cells)
        say(f"{way}: " + ", ".join(f"{column} {cell}" for column, cell in zip(COLUMNS, cells, strict=True)))
        rates.append(speed.steps_per_s)
    found.title = f"{name}, batch {scale.batch}: {rates[-1] / rates[0]:.2f} times as many images"
    return found


def speeds(params: Params, scale: Scale) -> Iterator[tuple[str, Speed]]:
    """Each way's name and speed."""
    for name, way in scale.ways.items():
        yield name, measured(with_values(params, synthesize={**way, "batch": scale.batch, "steps": scale.steps}), scale)


def told(speed: Speed, limit: float) -> list[str]:
    """The cells of a row; `limit` in operations per second."""
    rates = [f"{speed.steps_per_s / steps:.3g}" for steps in (1, 1000, 50)]
    memory = f"{speed.peak_bytes / 2**30:.1f}" if speed.peak_bytes else "not counted"
    return [*rates, memory, f"{speed.flops_per_s / 1e12:.3g}", f"{speed.flops_per_s / limit:.1%}", f"{speed.overhead:+.1%}"]


def measured(params: Params, scale: Scale) -> Speed:
    """The fastest of a few rounds of the sampling loop, after one that compiles and warms up."""
    gc.collect()  # the network before this one, so that its memory is not counted here
    job = scale.work(params)
    job.sampled()
    on_gpu = scale.device == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    rate = scale.batch * scale.steps / min(seconds(job.sampled) for _ in range(ROUNDS))
    memory = torch.cuda.max_memory_allocated() if on_gpu else 0
    return Speed(rate, memory, rate * scale.flops(), overhead(job, ROUNDS).sampled)


def matrix_flops_per_s(scale: Scale) -> float:
    """What a large bfloat16 matrix product reaches on this device."""
    side, calls = scale.matrix, 20
    left, right = (torch.randn(side, side, device=scale.device, dtype=torch.bfloat16) for _ in range(2))
    for _ in range(5):
        torch.matmul(left, right)
    fastest = min(seconds(lambda: [torch.matmul(left, right) for _ in range(calls)]) for _ in range(ROUNDS))
    return 2 * side**3 * calls / fastest


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


if __name__ == "__main__":
    main(*sys.argv[1:])
