"""Trains a segmenter on one arm. Nothing is selected on the test set: the last weights are kept.

Networks, losses and preprocessing are mmsegmentation's. The loop is ours (`fitting.Fit`), because it resumes bit for bit from
tensors alone: mmengine's Runner replays its data, reads checkpoints by pickle and needs files on disk.
"""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from stage.core.digests import derived_seed
from stage.core.durable import whole_file
from stage.core.fitting import Fit
from stage.core.segment_params import Segment
from stage.datasets.pairs import Pair
from stage.segmentation.arms import Arm
from stage.segmentation.batches import batch_at
from stage.segmentation.pretrained import load_pretrained
from stage.segmentation.segmenters import build_segmenter, losses

BETAS, WEIGHT_DECAY = (0.9, 0.999), 0.01  # of AdamW, as SegFormer's; norms and biases do not decay
DEPTH = 4  # batches that are made ahead of the network
T = TypeVar("T")


def train_segmenter(
    arm: Arm, name: str, params: Segment, *, seed: int, device: str, output: Path, state: Path, save_every_s: float
) -> pd.DataFrame:
    """Train the segmenter `name` and write its weights to `output` (safetensors); returns the loss curve, a row per iteration.

    An unfinished training in `state` is continued; the caller gives other arms, parameters and seeds another `state`.
    """
    # Drop-path and initialisation draw from torch's global generator, which is seeded per iteration and restored afterwards.
    with torch.random.fork_rng(), Ahead(lambda iteration: batch_at(arm, params, iteration, seed=seed), params.iterations) as batches:
        torch.manual_seed(derived_seed(seed, 0))
        model = initial_network(name, params).to(device).train()

        def losses_at(iteration: int) -> dict[str, Tensor]:
            images, masks = tensors(batches[iteration], device)
            torch.manual_seed(derived_seed(seed, 1 + iteration))
            return losses(model, images, masks)

        fit = Fit(f"segment {arm.name}", {"model": model}, _optimizer(model, params), params.iterations, state, save_every_s)
        curve = fit.run(losses_at)
    _write(model, output)
    return curve


class Ahead(Generic[T]):
    """The values of a pure function of 0 … count - 1, computed by threads ahead of time; they must be asked for in rising order."""

    def __init__(self, function: Callable[[int], T], count: int, *, depth: int = DEPTH) -> None:
        """Up to `depth` values wait."""
        self.function, self.count, self.depth = function, count, depth
        self.waiting: deque[tuple[int, Future[T]]] = deque()
        self.pool = ThreadPoolExecutor(max_workers=depth, thread_name_prefix="ahead")

    def __enter__(self) -> "Ahead[T]":
        return self

    def __exit__(self, *_: object) -> None:
        self.pool.shutdown(wait=True, cancel_futures=True)

    def __getitem__(self, index: int) -> T:
        while self.waiting and self.waiting[0][0] < index:
            self.waiting.popleft()[1].cancel()
        following = self.waiting[-1][0] + 1 if self.waiting else index
        for later in range(following, min(index + 1 + self.depth, self.count)):
            self.waiting.append((later, self.pool.submit(self.function, later)))
        return self.waiting.popleft()[1].result()


def initial_network(name: str, params: Segment) -> nn.Module:
    """A segmenter before training; `name` is one of `segment.models`."""
    model = build_segmenter(name)
    if name in params.weights:
        load_pretrained(model, params.weights[name])
    return model


def tensors(pairs: Sequence[Pair], device: str) -> tuple[Tensor, Tensor]:
    """Images (B, 3, H, W) in 0 … 255 and masks (B, 1, H, W) in {0, 1} of pairs of one size."""
    images = torch.from_numpy(np.stack([pair.image for pair in pairs])).to(device).permute(0, 3, 1, 2).float()
    return images, torch.from_numpy(np.stack([pair.mask for pair in pairs])).to(device).unsqueeze(1)


def _optimizer(model: nn.Module, params: Segment) -> torch.optim.Optimizer:
    """AdamW; the pretrained encoder learns more slowly than the head."""
    groups: list[dict[str, Any]] = []
    for is_encoder, rate in ((True, params.learning_rate * params.encoder_rate), (False, params.learning_rate)):
        weights = [weight for name, weight in model.named_parameters() if name.startswith("backbone.") == is_encoder]
        groups += [
            {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": WEIGHT_DECAY, "lr": rate},
            {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0, "lr": rate},
        ]
    return torch.optim.AdamW(groups, lr=params.learning_rate, betas=BETAS)


def _write(model: nn.Module, output: Path) -> None:
    with whole_file(output) as partial:
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, partial)
