"""A trained segmenter's predictions on the test images, image by image. The test set selects nothing: the last weights count."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from datasets import Features, Value
from datasets import Image as ImageFeature
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from stage.core.errors import CorruptFileError
from stage.core.segment_params import Segment
from stage.datasets.pairs import Pair, Pairs, encode_png, image_features, write_table
from stage.segmentation.counts import Counts
from stage.segmentation.metrics import HALF, false_alarms, image_scores, pixel_scores, threshold_scores
from stage.segmentation.segmenters import DEFECT, build_segmenter, logits
from stage.segmentation.training import tensors

TEXTS = ("category", "defect", "image_path")


class Segmenter:
    """A trained segmenter on a device."""

    def __init__(self, weights: Path, params: Segment, device: str) -> None:
        """Read from safetensors. Raises CorruptFileError if they are of another network."""
        self.params, self.device = params, device
        self.model = _load(weights, params).to(device).eval()

    @torch.inference_mode()
    def predict(self, images: Sequence[Pair]) -> Iterator[NDArray[np.float32]]:
        """Per image (H, W) the defect's logit minus the normal one's, at the image's own resolution; the masks are not used."""
        for pair in images:
            both = logits(self.model, tensors([pair], self.device)[0], self.params.window)[0]
            yield (both[DEFECT] - both[1 - DEFECT]).float().cpu().numpy()


class ArmResult(NamedTuple):
    """Metrics as fractions, and the defect probability of each defective test image, (H, W) in 0 … 255, as grey levels of an RGB PNG."""

    metrics: dict[str, float]
    predictions: list[bytes]


def evaluate_arm(weights: Path, params: Segment, *, defective: Sequence[Pair], good: Sequence[Pair], device: str) -> ArmResult:
    """Every metric of one arm: per pixel over the defective test images, per image over defective and good ones.

    IoU, Acc and false alarms are at a threshold of one half, where each pixel gets its likelier class, as in mmsegmentation. One image is
    held at a time.
    """
    segmenter, predictions = Segmenter(weights, params, device), list[bytes]()

    def seen() -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
        for scores, pair in zip(segmenter.predict(defective), defective, strict=True):
            grey = np.rint(255 * probabilities(scores)).astype(np.uint8)
            predictions.append(encode_png(np.repeat(grey[..., None], 3, axis=-1)))
            yield scores, pair.mask

    found = Counts.of(seen())
    calm = Counts.of((scores, pair.mask) for scores, pair in zip(segmenter.predict(good), good, strict=True))
    total = found.total()
    metrics = {**threshold_scores(total, HALF), **pixel_scores(total), **image_scores(found, calm), **false_alarms(calm, HALF)}
    return ArmResult(metrics, predictions)


def probabilities(differences: NDArray[np.floating]) -> NDArray[np.float32]:
    """The defect probability of a difference of logits."""
    return (1 / (1 + np.exp(-np.clip(differences, -80, 80)))).astype(np.float32)


def _load(weights: Path, params: Segment) -> nn.Module:
    with torch.random.fork_rng():
        model = build_segmenter(params)
    try:
        model.load_state_dict(load_file(weights))
    except RuntimeError as error:
        raise CorruptFileError(
            f"Expected weights of a {params.model}, found others in {weights}. Run `dvc repro segment` to train anew."
        ) from error
    return model


def write_predictions(pairs: Pairs, arms: Mapping[str, Sequence[bytes]], path: Path) -> None:
    """Write a row per pair: its names, image, mask, and per arm the defect probability as `evaluate_arm` gives it."""
    features = Features({**{name: Value("string") for name in TEXTS}, **image_features(), **{arm: ImageFeature() for arm in arms}})
    table = pairs.table.select([*TEXTS, "image", "mask"]).to_pylist()
    found = zip(*arms.values(), strict=True)
    rows = (
        {**row, **{arm: {"bytes": picture, "path": None} for arm, picture in zip(arms, pictures, strict=True)}}
        for row, pictures in zip(table, found, strict=True)
    )
    write_table(rows, features, path)
