"""A trained segmenter's predictions on the test images, and their metrics. The test set selects nothing: the last weights count."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from datasets import Features, Value
from datasets import Image as ImageFeature
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from stage.core.errors import CorruptFileError
from stage.core.segment_params import Segment
from stage.datasets.pairs import Pair, Pairs, encode_png, image_features, write_table
from stage.segmentation.metrics import confusion, defect_scores, image_scores, pixel_scores
from stage.segmentation.segmenters import DEFECT, build_segmenter, logits
from stage.segmentation.training import enlarge

TEXTS = ("category", "defect", "image_path")


@torch.inference_mode()
def predict(weights: Path, params: Segment, images: Sequence[Pair], *, device: str, batch: int) -> NDArray[np.float32]:
    """Defect probabilities (N, H, W) in [0, 1] at the pairs' own resolution; the masks are not used."""
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
    """Every metric of one arm: per pixel over the defective test images, per image over defective and good ones.

    For IoU and Acc, each pixel gets its more likely class, as in mmsegmentation.
    """
    masks = np.stack([pair.mask for pair in defective])
    scores = predict(weights, params, defective, device=device, batch=batch)
    calm = predict(weights, params, good, device=device, batch=batch) if len(good) else scores[:0]
    metrics = {**defect_scores(confusion(scores > 0.5, masks)), **pixel_scores(scores, masks), **image_scores(scores, calm)}
    return ArmResult(metrics, scores)


def _probabilities(model: nn.Module, pairs: Sequence[Pair], size: int, device: str) -> NDArray[np.float32]:
    raw = logits(model, enlarge(pairs, size, device)[0])
    own = functional.interpolate(raw, size=pairs[0].mask.shape, mode="bilinear", align_corners=False)
    return own.softmax(dim=1)[:, DEFECT].cpu().numpy()


def _load(weights: Path, params: Segment) -> nn.Module:
    with torch.random.fork_rng():
        model = build_segmenter(params)
    try:
        model.load_state_dict(load_file(weights))
    except RuntimeError as error:
        raise CorruptFileError(
            f"Expected weights of a {params.model} of width {params.width} and depths {list(params.depths)}, "
            f"found others in {weights}. Run `dvc repro segment` to train anew."
        ) from error
    return model


def write_predictions(pairs: Pairs, probabilities: Mapping[str, NDArray[np.float32]], path: Path) -> None:
    """Write a row per pair: its names, image, mask, and per arm the defect probability, (N, H, W), as grey levels of an RGB PNG."""
    arms = {arm: ImageFeature() for arm in probabilities}
    features = Features({**{name: Value("string") for name in TEXTS}, **image_features(), **arms})
    table = pairs.table.select([*TEXTS, "image", "mask"]).to_pylist()
    grey = [[_grey(one) for one in values] for values in probabilities.values()]
    rows = ({**row, **dict(zip(probabilities, cells, strict=True))} for row, *cells in zip(table, *grey, strict=True))
    write_table(rows, features, path)


def _grey(probability: NDArray[np.float32]) -> dict[str, bytes | None]:
    levels = np.rint(probability * 255).astype(np.uint8)
    return {"bytes": encode_png(np.repeat(levels[..., None], 3, axis=-1)), "path": None}
