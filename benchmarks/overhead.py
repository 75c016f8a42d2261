"""How much longer the sampler takes than the forwards it cannot do without."""

import time
from collections.abc import Callable
from statistics import median
from typing import NamedTuple

import torch

from benchmarks.networks import Work


class Overhead(NamedTuple):
    """Seconds of a bare step, and over it the sampler's step less the bare one, and the step of the loop without a network."""

    bare_s: float
    sampled: float
    idle: float


def overhead(job: Work, rounds: int) -> Overhead:
    """Medians over rounds, in each of which the sampler runs between two bare runs and is compared with their mean."""
    steps = len(job.renderer.moves)
    job.bare()
    found: list[Overhead] = []
    for _ in range(rounds):
        before, ours, idle, after = (seconds(action) for action in (job.bare, job.sampled, job.idle, job.bare))
        bare = (before + after) / 2
        found.append(Overhead(bare / steps, ours / bare - 1, idle / bare))
    return Overhead(*(median(values) for values in zip(*found, strict=True)))


def seconds(action: Callable[[], object]) -> float:
    """Of one call; where there is a GPU, with its queue empty before and after."""
    finish = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    finish()
    started = time.perf_counter()
    action()
    finish()
    return time.perf_counter() - started
