"""What training costs: an update of ours over the bare networks' forward and backward, and the memory of it on the paper's base.

Run it with `python -m benchmarks.training` from the project's root, on a machine that does nothing else; about three minutes on two cores.
Where there is a GPU, the LDM-size network is measured there at the paper's batch, and its memory too.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

# Read when torch is imported: spinning threads collapse as soon as anything else uses the CPU.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import memory
from benchmarks.accelerator import seconds
from benchmarks.networks import LDM_UNET, default_params, demo_generator, ldm_generator, ldm_unet, with_values
from stage.core.at_once import Each, two_at_once
from stage.core.device import autocast, dtype_of
from stage.core.fitting import Fit, Part
from stage.core.params import Params
from stage.model.generator import BRANCHES, Generator
from stage.model.latents import CachedLatents
from stage.model.loss import StageLoss
from stage.model.training import economise, optimise

SMALL_LIMIT, LARGE_LIMIT = 0.10, 0.03  # of the bare networks' time
IMAGES, ROUNDS = 4, 25


@dataclass(frozen=True)
class Work:
    """A training at its first update, on noise as its latents; `inputs` are latents, masks, timesteps and conditions of a batch."""

    generator: Generator
    fit: Fit
    loss: StageLoss
    inputs: tuple[Tensor, Tensor, Tensor, Tensor]

    def ours(self) -> None:
        """One update of the product's."""
        self.update(self.loss(0))

    def at_once(self) -> None:
        """The same with both branches at once, each on half of the threads."""
        with two_at_once() as each:
            self.update(self.loss(0), each)

    def bare(self) -> None:
        """A batch through U-Net and adapters and back, and nothing else: no text, noise, loss or optimiser."""
        x_t, mask, t, conditions = self.inputs
        for branch in BRANCHES:
            with autocast(self.loss.device, self.loss.dtype):
                eps = self.generator.base.unet(x_t, t, conditions).sample.float()
                refined = self.generator.adapters[branch](eps, mask)
            refined.float().mean().backward()
        self.fit.optimizer.zero_grad()
        conditions.grad = None

    def rest(self) -> None:
        """One update without U-Net and adapters: what is left is the loop's own."""
        self.update(self._without_networks())

    def update(self, parts: Iterable[Sequence[Part]], each: Each = map) -> None:
        """The product's update from these losses."""
        self.fit._update(0, [1e-3, 1e-3], parts, each)

    def _without_networks(self) -> Iterator[list[Part]]:
        conditions = self.loss.conditions(self.loss._draw(0).types)
        learning = [p for group in self.fit.optimizer.param_groups for p in group["params"]]
        yield [lambda: {"loss": 1e-3 * torch.stack([conditions.table.mean(), *(p.mean() for p in learning)]).sum()}]


def main() -> None:
    """Measure, and print the tables."""
    console, params = Console(width=110), default_params()
    console.print(overhead(params), branches_at_once(params), sep="\n")
    console.print(memory.table(params))


def overhead(params: Params) -> Table:
    """Ours over bare, with its limit, for the demo's network and the LDM's."""
    columns = ("network", "bare, s", "ours, s", "ours / bare", "quartiles", "loop alone, s", "/ bare", "limit")
    found = Table(*columns, title="An update of training, and the forward and backward of its U-Net and adapters")
    add_measured(found, "demo", demo_work(params), SMALL_LIMIT)
    if torch.cuda.is_available():
        job = ldm_work(params, batch=memory.BATCH, device="cuda")
        torch.cuda.reset_peak_memory_stats()
        add_measured(found, f"LDM, batch {memory.BATCH}", job, LARGE_LIMIT)
        peak = torch.cuda.max_memory_allocated() / memory.GIB
        found.caption = f"{torch.cuda.get_device_name()}, {job.loss.dtype}: {peak:.2f} GiB at most, with a text encoder that is small"
    else:
        add_bound(found, "LDM, batch 1", ldm_work(params, batch=1, device="cpu"), LARGE_LIMIT)
        found.caption = "Without a GPU: the loop alone over one row's networks, where it weighs most"
    return found


def branches_at_once(params: Params) -> Table:
    """An update of the demo's network with its branches at once over one with them in turn, on the same threads."""
    found = Table("threads", "in turn, s", "at once, s", "at once / in turn", "quartiles", title="Both branches of an update at once")
    job = demo_work(params)
    job.ours()
    rounds = [(seconds(job.ours), seconds(job.at_once)) for _ in range(ROUNDS)]
    in_turn, at_once = (median(times) for times in zip(*rounds, strict=True))
    low, middle, high = quantiles([new / old for old, new in rounds], n=4, method="inclusive")
    found.add_row(str(torch.get_num_threads()), f"{in_turn:.3f}", f"{at_once:.3f}", f"{middle:.2f}", f"{low:.2f} to {high:.2f}")
    return found


def add_measured(table: Table, name: str, job: Work, limit: float) -> None:
    """Measure in turns and add a row: medians, and the middle half of the rounds' ratios."""
    job.ours()
    rounds = [(seconds(job.bare), seconds(job.ours), seconds(job.rest)) for _ in range(ROUNDS)]
    bare, ours, rest = (median(times) for times in zip(*rounds, strict=True))
    low, middle, high = quantiles([ours / bare for bare, ours, _ in rounds], n=4, method="inclusive")
    alone = median(rest / bare for bare, _, rest in rounds)
    numbers = (f"{bare:.3f}", f"{ours:.3f}", f"{middle:.3f}", f"{low:.3f} to {high:.3f}", f"{rest:.4f}", f"{alone:.4f}")
    table.add_row(name, *numbers, f"{1 + limit:.2f}")


def add_bound(table: Table, name: str, job: Work, limit: float) -> None:
    """Measure bare networks and loop apart and add a row: for a network too slow here to tell the two apart."""
    job.rest()
    rest = median(seconds(job.rest) for _ in range(ROUNDS))
    bare = min(seconds(job.bare) for _ in range(2))
    table.add_row(name, f"{bare:.3f}", "", "", "", f"{rest:.4f}", f"{rest / bare:.4f}", f"{1 + limit:.2f}")


def demo_work(params: Params) -> Work:
    """The demo's training, as params.yaml has it."""
    return work(demo_generator(params), params, side=params.base.image_size // params.pretrain.patch, device="cpu")


def ldm_work(params: Params, *, batch: int, device: str) -> Work:
    """The paper's training on a network of LDM text-to-image's size, with a small text encoder of its width."""
    paper = {"batch": batch, "train_base": False, "residual": False, "accumulate": 1}
    changed = with_values(params, train=paper)
    return work(ldm_generator(changed, ldm_unet("cpu")), changed, side=LDM_UNET["sample_size"], device=device)


def work(generator: Generator, params: Params, *, side: int, device: str) -> Work:
    """A training of the product's parts on latents (IMAGES, 1, C, side, side) of noise."""
    generator.to(device)
    random = torch.Generator().manual_seed(0)
    latents = torch.randn(IMAGES, 1, generator.base.channels, side, side, generator=random).to(device)
    masks = torch.zeros(IMAGES, 1, 1, side, side, device=device)
    masks[..., side // 4 : side // 2, side // 4 : side // 2] = 1
    groups = torch.zeros(IMAGES, 1, dtype=torch.int64)
    data = CachedLatents(latents, masks, torch.arange(IMAGES) % len(generator.types), latents[:, 0], groups, IMAGES)
    dtype = dtype_of(params.train.precision, device)
    optimizer, modules = optimise(generator, params.train)
    economise(generator, params.train, dtype)
    loss = StageLoss(generator, data, params.method, params.train, templates=params.base.prompts, seed=0)
    scaler = torch.amp.GradScaler(device, enabled=dtype == torch.float16)
    fit = Fit("benchmark", modules, optimizer, params.train.iterations, Path(os.devnull), float("inf"), scaler=scaler)
    batch = loss._draw(0)
    found = loss.conditions(batch.types)
    conditions = found.table[found.rows["anomaly_aware"]].detach().requires_grad_()
    return Work(generator, fit, loss, (batch.x_0, batch.mask, batch.t.to(device), conditions))


if __name__ == "__main__":
    main()
