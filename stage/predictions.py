"""Test images beside what each arm's segmenter says of them, for the report."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from datasets import Features, Value
from datasets import Image as ImageFeature
from numpy.typing import NDArray

from stage.pairs import Pairs, encode_png, image_features, write_table

TEXTS = ("category", "defect", "image_path")


def write_predictions(pairs: Pairs, probabilities: Mapping[str, NDArray[np.float32]], path: Path) -> None:
    """A row per pair: its names, image, mask, and per arm the defect probability (N, H, W) as an 8-bit grey PNG."""
    arms = {arm: ImageFeature() for arm in probabilities}
    features = Features({**{name: Value("string") for name in TEXTS}, **image_features(), **arms})
    table = pairs.table.select([*TEXTS, "image", "mask"]).to_pylist()
    grey = [[_grey(one) for one in values] for values in probabilities.values()]
    rows = ({**row, **dict(zip(probabilities, cells, strict=True))} for row, *cells in zip(table, *grey, strict=True))
    write_table(rows, features, path)


def _grey(probability: NDArray[np.float32]) -> dict[str, bytes | None]:
    levels = np.rint(probability * 255).astype(np.uint8)
    return {"bytes": encode_png(np.repeat(levels[..., None], 3, axis=-1)), "path": None}
