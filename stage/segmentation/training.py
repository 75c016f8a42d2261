"""Trains a segmenter on one arm. The test set selects nothing: the last weights are kept.

Networks, losses and preprocessing are mmsegmentation's. The loop is ours (`fitting.Fit`), because it resumes bit for bit from
tensors alone: mmengine's Runner replays its data, reads checkpoints by pickle and needs files on disk.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from stage.core.digests import derived_seed
from stage.core.durable import whole_file
from stage.core.fitting import Fit
from stage.core.params import Segment
from stage.datasets.pairs import Pair
from stage.segmentation.arms import Arm, batch_at, composition
from stage.segmentation.segmenters import build_segmenter, losses

BETAS, WEIGHT_DECAY = (0.9, 0.999), 0.01  # of AdamW, as SegFormer's; norms and biases do not decay


def train_segmenter(arm: Arm, params: Segment, *, seed: int, device: str, output: Path, state: Path, save_every_s: float) -> pd.DataFrame:
    """Train from random weights and write them to `output` (safetensors); returns the loss curve, a row per iteration.

    An unfinished training in `state` is continued; the caller gives other arms, parameters and seeds another `state`.
    """
    composition(arm, params)
    # Drop-path and initialisation draw from torch's global generator, which is seeded per iteration and restored afterwards.
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(seed, 0))
        model = build_segmenter(params).to(device).train()

        def losses_at(iteration: int) -> dict[str, Tensor]:
            images, masks = enlarge(batch_at(arm, params, iteration, seed=seed), params.image_size, device)
            torch.manual_seed(derived_seed(seed, 1 + iteration))
            return losses(model, images, masks)

        fit = Fit(f"segment {arm.name}", {"model": model}, _optimizer(model, params), params.iterations, state, save_every_s)
        curve = fit.run(losses_at)
    _write(model, output)
    return curve


def enlarge(pairs: Sequence[Pair], size: int, device: str) -> tuple[Tensor, Tensor]:
    """Images (B, 3, S, S) in 0 … 255 and masks (B, 1, S, S) at the network's input size."""
    images = torch.from_numpy(np.stack([pair.image for pair in pairs])).to(device).permute(0, 3, 1, 2).float()
    masks = torch.from_numpy(np.stack([pair.mask for pair in pairs])).to(device).unsqueeze(1)
    return (
        functional.interpolate(images, size=(size, size), mode="bilinear", align_corners=False, antialias=True),
        functional.interpolate(masks, size=(size, size), mode="nearest-exact"),
    )


def _optimizer(model: nn.Module, params: Segment) -> torch.optim.Optimizer:
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=params.learning_rate, betas=BETAS)


def _write(model: nn.Module, output: Path) -> None:
    with whole_file(output) as partial:
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, partial)
