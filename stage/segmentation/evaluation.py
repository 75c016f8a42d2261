"""A trained segmenter's predictions, image by image, and the counts of its scores. Nothing is selected on the test set: the last weights count."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from stage.core.errors import CorruptFileError
from stage.datasets.columns import PICTURE, STRING, Columns
from stage.datasets.pairs import Pair, Pairs, encode_png, image_columns, write_table
from stage.segmentation.counts import Counts
from stage.segmentation.segmenters import DEFECT, build_segmenter, logits
from stage.segmentation.training import tensors

TEXTS = ("category", "defect", "image_path")


class Segmenter:
    """A trained segmenter on a device."""

    def __init__(self, weights: Path, name: str, *, window: int, device: str) -> None:
        """Read the weights from safetensors; sides longer than `window` px are predicted in windows. Raises CorruptFileError for another network's."""
        self.window, self.device = window, device
        self.model = _load(weights, name).to(device).eval()

    @torch.inference_mode()
    def scores(self, image: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(H, W): the defect's logit minus the normal one's, of an image (H, W, 3), at its own resolution."""
        blank = np.zeros(image.shape[:2], np.uint8)
        both = logits(self.model, tensors([Pair(image, blank)], self.device)[0], self.window)[0]
        return (both[DEFECT] - both[1 - DEFECT]).float().cpu().numpy()

    def counts(self, pairs: Sequence[Pair], pictures: list[bytes] | None = None) -> Counts:
        """The scores against the masks, one image in memory at a time; a list of `pictures` gets the PNG of each image's probability."""

        def seen() -> Iterator[tuple[NDArray[np.float32], NDArray[np.uint8]]]:
            for pair in pairs:
                scores = self.scores(pair.image)
                if pictures is not None:
                    pictures.append(probability_png(scores))
                yield scores, pair.mask

        return Counts.of(seen())


def probability_png(differences: NDArray[np.floating]) -> bytes:
    """The defect probability of differences of logits, (H, W) in 0 … 255, as grey levels of an RGB PNG."""
    grey = np.rint(255 / (1 + np.exp(-np.clip(differences, -80, 80)))).astype(np.uint8)
    return encode_png(np.repeat(grey[..., None], 3, axis=-1))


def _load(weights: Path, name: str) -> nn.Module:
    with torch.random.fork_rng():
        model = build_segmenter(name)
    try:
        model.load_state_dict(load_file(weights))
    except RuntimeError as error:
        raise CorruptFileError(
            f"Expected weights of a {name}, found others in {weights}. Run `dvc repro segment` to train anew."
        ) from error
    return model


def write_predictions(pairs: Pairs, arms: Mapping[str, Sequence[bytes]], path: Path) -> None:
    """Write a row per pair: its names, image, mask, and per arm the defect probability as a `probability_png`."""
    columns: Columns = {**dict.fromkeys(TEXTS, STRING), **image_columns(), **dict.fromkeys(arms, PICTURE)}
    table = pairs.table.select([*TEXTS, "image", "mask"]).to_pylist()
    found = zip(*arms.values(), strict=True)
    rows = (
        {**row, **{arm: {"bytes": picture, "path": None} for arm, picture in zip(arms, pictures, strict=True)}}
        for row, pictures in zip(table, found, strict=True)
    )
    write_table(rows, columns, path)
