"""Downstream segmentation: train a segmenter on one arm, predict, evaluate. The test set chooses nothing: the last weights count.

The loop is ours (`fitting.Fit`), the networks, losses and preprocessing are mmsegmentation's: mmengine's Runner resumes its
data by replaying it and its checkpoints by pickle, and would need files on disk, where ours resumes to the bit from tensors alone.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from stage.arms import Arm, batch_at, composition
from stage.fitting import Fit
from stage.metrics import confusion, defect_scores, image_scores, pixel_scores
from stage.pairs import Pair
from stage.params import Segment
from stage.seeds import derived_seed
from stage.segmenters import DEFECT, build_segmenter, logits, losses

BETAS, WEIGHT_DECAY = (0.9, 0.999), 0.01  # of AdamW, as SegFormer's; norms and biases do not decay


def train_segmenter(
    arm: Arm, params: Segment, *, seed: int, device: str, output: Path, state_dir: Path, save_every_s: float
) -> pd.DataFrame:
    """Train from random weights and write them to `output` (safetensors); returns the loss curve, a row per iteration.

    An unfinished training of the same arm, parameters and seed in `state_dir` is continued; `progress.Interrupted` leaves one there.
    """
    composition(arm, params)
    state = state_dir / f"{arm.name}-{_digest(arm, params, seed)}.safetensors"
    # Drop-path and initialisation draw from torch's global generator: seeded per iteration, and handed back untouched.
    with torch.random.fork_rng():
        torch.manual_seed(derived_seed(seed, 0))
        model = build_segmenter(params).to(device).train()

        def losses_at(iteration: int) -> dict[str, Tensor]:
            images, masks = _enlarge(batch_at(arm, params, iteration, seed=seed), params.image_size, device)
            torch.manual_seed(derived_seed(seed, 1 + iteration))
            return losses(model, images, masks)

        fit = Fit(f"segment {arm.name}", {"model": model}, _optimizer(model, params), params.iterations, state, save_every_s)
        curve = fit.run(losses_at)
    _write(model, output)
    for unfinished in state_dir.glob(f"{arm.name}-*.safetensors"):
        unfinished.unlink()
    return curve


@torch.inference_mode()
def predict(weights: Path, params: Segment, images: Sequence[Pair], *, device: str, batch: int) -> NDArray[np.float32]:
    """Defect probabilities (N, H, W) in [0, 1] at the pairs' own resolution; the masks are not looked at."""
    model = _load(weights, params).to(device).eval()
    batches = (range(start, min(start + batch, len(images))) for start in range(0, len(images), batch))
    return np.concatenate([_probabilities(model, [images[i] for i in rows], params.image_size, device) for rows in batches])


class ArmResult(NamedTuple):
    """Metrics as fractions, and the defect probabilities (N, H, W) of the defective test images."""

    metrics: dict[str, float]
    probabilities: NDArray[np.float32]


def evaluate_arm(
    weights: Path, params: Segment, *, defective: Sequence[Pair], good: Sequence[Pair], device: str, batch: int = 16
) -> ArmResult:
    """Every metric of one arm: per pixel over the defective test images, per image with the good ones beside them.

    IoU and Acc are taken where the defect is the more likely class, as mmsegmentation does.
    """
    masks = np.stack([pair.mask for pair in defective])
    scores = predict(weights, params, defective, device=device, batch=batch)
    calm = predict(weights, params, good, device=device, batch=batch) if len(good) else scores[:0]
    metrics = {**defect_scores(confusion(scores > 0.5, masks)), **pixel_scores(scores, masks), **image_scores(scores, calm)}
    return ArmResult(metrics, scores)


def _probabilities(model: nn.Module, pairs: Sequence[Pair], size: int, device: str) -> NDArray[np.float32]:
    raw = logits(model, _enlarge(pairs, size, device)[0])
    own = functional.interpolate(raw, size=pairs[0].mask.shape, mode="bilinear", align_corners=False)
    return own.softmax(dim=1)[:, DEFECT].cpu().numpy()


def _enlarge(pairs: Sequence[Pair], size: int, device: str) -> tuple[Tensor, Tensor]:
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


def _digest(arm: Arm, params: Segment, seed: int) -> str:
    """Names all that the training depends on, so that it never resumes over other data or parameters."""
    digest = hashlib.blake2b(f"{params.model_dump_json()} {seed}".encode(), digest_size=8)
    for pool in (arm.normal, arm.real, arm.synthetic):
        digest.update(f" {len(pool)}".encode())
        for image, mask in pool:
            digest.update(f" {image.shape}".encode() + image.tobytes() + mask.tobytes())
    return digest.hexdigest()


def _write(model: nn.Module, output: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    temporary = output.with_name(f"{output.name}.part")
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, temporary)
    temporary.replace(output)


def _load(weights: Path, params: Segment) -> nn.Module:
    with torch.random.fork_rng():
        model = build_segmenter(params)
    try:
        model.load_state_dict(load_file(weights))
    except RuntimeError as error:
        raise ValueError(
            f"Expected weights of a {params.model} of width {params.width} and depths {list(params.depths)}, "
            f"found others in {weights}. Run `dvc repro segment` to train anew."
        ) from error
    return model
