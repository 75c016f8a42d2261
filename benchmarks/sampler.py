"""What sampling costs: network calls, the loop around them, and Algorithm 1 as printed beside the default settings.

Run it with `python -m benchmarks.sampler` from the project's root, on a machine that does nothing else; about five minutes on two cores.
Where there is a GPU, it is measured too. `--quick` tries every part at a small size, and measures nothing of use.
"""

import sys
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import accelerator
from benchmarks.end_to_end import Order, demo_order, plainly
from benchmarks.networks import Work, default_params, demo_generator, ldm_unet, ldm_work, with_values, work
from benchmarks.overhead import overhead, seconds
from stage.core.params import Params
from stage.core.synthesis_params import Synthesize

SPACINGS, KNOWN_REGIONS = ("uniform", "coarse_to_fine"), ("posterior", "fresh", "fresh_resample")
SMALL_LIMIT, LARGE_LIMIT = 0.10, 0.03  # of the bare forwards' time


def main(*options: str) -> None:
    """Measure all and print the tables."""
    is_quick, console = "--quick" in options, Console()
    params = small(default_params()) if is_quick else default_params()
    parts: dict[str, Callable[[], Table]] = {
        "counting network calls": lambda: calls_table(params),
        "timing the loop": lambda: overhead_table(params, is_quick=is_quick),
        "timing Algorithm 1": lambda: reference_table(params),
    }
    if torch.cuda.is_available():
        parts["timing the GPU"] = lambda: accelerator.table(default_params(), accelerator.ldm())
    tables: list[Table] = []
    for label, part in parts.items():
        console.print(f"{label} ...", style="dim")
        tables.append(part())
    console.print(*tables, sep="\n")
    if not torch.cuda.is_available():
        console.print(
            f"No GPU: bfloat16, compiled, not measured. One call is {accelerator.ldm_flops() / 1e9:.1f} GFLOP per image on the LDM's size."
        )


def small(params: Params) -> Params:
    """The same at a size that runs in seconds."""
    return with_values(
        params,
        base={"timestep_count": 50},
        pretrain={"widths": (16, 16, 16)},
        method={"alignment_threshold": 10},
        train={"adapter_widths": (8,)},
        synthesize={"count": 2, "batch": 2, "steps": 10, "graded_intervals": ((40, 50), (15, 20))},
    )


def grid_side(params: Params) -> int:
    """Of the small base's latents, in cells."""
    return params.base.image_size // params.pretrain.patch


def calls_table(params: Params) -> Table:
    """Network calls of a batch, counted; an AssertionError where one is too many or too few."""
    table = Table("spacing", "known_region", "steps", "denoising moves", "network calls", title="One network call a step")
    for spacing, known_region in product(SPACINGS, KNOWN_REGIONS):
        changes = {"spacing": spacing, "known_region": known_region, "batch": 2, "steps": 10, "jump_length": 3, "resamplings": 2}
        changed = with_values(params, synthesize=changes)
        expected = denoising_moves(changed.synthesize)
        job = work(demo_generator(changed), changed, side=grid_side(changed))
        found = calls(job, job.sampled)
        assert found == expected, f"{found} network calls with {changes}, expected {expected}"
        table.add_row(spacing, known_region, "10", str(expected), str(found))
    return table


def denoising_moves(params: Synthesize) -> int:
    """By hand: RePaint walks every stretch but the first `resamplings` times, and pays nothing for the way back."""
    if params.known_region != "fresh_resample":
        return params.steps
    once = min(params.jump_length, params.steps)
    return once + (params.steps - once) * params.resamplings


def calls(job: Work, action: Callable[[], object]) -> int:
    """How often an action calls the U-Net."""
    seen: list[None] = []
    hook = job.renderer.generator.base.unet.register_forward_hook(lambda *_: seen.append(None))
    action()
    hook.remove()
    return len(seen)


def overhead_table(params: Params, *, is_quick: bool) -> Table:
    """The loop's cost over the bare forwards, on both sizes of network."""
    table = Table(
        "network", "batch", "bare step, ms", "overhead", "loop alone", "limit", title="Over bare U-Net and adapter forwards, medians"
    )
    jobs = {"demo's": (lambda: demo_work(params), 1 if is_quick else 15, SMALL_LIMIT)}
    if not is_quick:
        jobs["LDM's, bfloat16"] = (lambda: large_work(params), 3, LARGE_LIMIT)
    for name, (make, rounds, limit) in jobs.items():
        job = make()
        found = overhead(job, rounds)
        table.add_row(name, str(len(job.x_back)), f"{found.bare_s * 1e3:.1f}", f"{found.sampled:+.1%}", f"{found.idle:.2%}", f"{limit:.0%}")
    return table


def demo_work(params: Params) -> Work:
    """Ten steps on the demo's network."""
    changed = with_values(params, synthesize={"steps": 10})
    return work(demo_generator(changed), changed, side=grid_side(changed))


def large_work(params: Params) -> Work:
    """Two steps on the LDM's network, one of either branch."""
    return ldm_work(with_values(params, synthesize={"batch": 2, "steps": 2, "precision": "bfloat16"}), ldm_unet("cpu"), "cpu")


def reference_table(params: Params) -> Table:
    """The default settings and Algorithm 1 with every timestep, from photographs to pasted samples."""
    with tempfile.TemporaryDirectory() as folder:
        order = demo_order(params, Path(folder))
        order.renderer.render(order.rows, order.source)
        before, plain, after = (
            seconds(action) for action in (partial(thrice, order), lambda: plainly(order, params), partial(thrice, order))
        )
    ours = (before + after) / 6
    table = Table("way", "steps", "s", "ratio", title=f"Encode, sample, decode and paste {len(order.rows)} images of the demo")
    table.add_row("Algorithm 1 as printed, float32", str(params.base.timestep_count), f"{plain:.2f}", "1")
    table.add_row("params.yaml", str(params.synthesize.steps), f"{ours:.2f}", f"{ours / plain:.3f} (1 / {plain / ours:.1f})")
    return table


def thrice(order: Order) -> None:
    """Three batches by the renderer."""
    for _ in range(3):
        order.renderer.render(order.rows, order.source)


if __name__ == "__main__":
    main(*sys.argv[1:])
