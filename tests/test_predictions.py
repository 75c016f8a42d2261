"""Predictions on disk: the images beside what each arm says of them, at eight bits."""

from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from stage.datasets.pairs import Pairs, image_cell
from stage.segmentation.evaluation import probability_png, write_predictions


@pytest.fixture
def pairs() -> Pairs:
    """Two pairs of 2x2 pixels, with a column more than is kept."""
    rows = [
        {
            "category": "bolt",
            "defect": "crack",
            "image_path": f"{k}.png",
            "licence": "CC0",
            "image": image_cell(np.full((2, 2, 3), 10 * k, np.uint8)),
            "mask": image_cell(np.eye(2, dtype=np.uint8)),
        }
        for k in range(2)
    ]
    return Pairs(pa.Table.from_pylist(rows))


def read(path: Path) -> datasets.Dataset:
    return datasets.load_dataset("parquet", data_files=str(path), split="train", cache_dir=str(path.parent / "cache"))


def test_probabilities_are_grey_levels_of_full_scale(pairs: Pairs, tmp_path: Path) -> None:
    """The report would show certain defects as faint ones: 0, 0.5, 0.25 and 1 are 0, 127.5, 63.75 and 255, rounded."""
    odds = np.array([[[1e-9, 1], [1 / 3, 1e9]], [[1e9, 1e9], [1e-9, 0.001]]], np.float32)

    write_predictions(pairs, {"real_only": [probability_png(np.log(one)) for one in odds]}, tmp_path / "p.parquet")

    levels = [np.asarray(row["real_only"].convert("L")).tolist() for row in read(tmp_path / "p.parquet")]
    assert levels == [[[0, 128], [64, 255]], [[255, 255], [0, 0]]]


def test_every_arm_stands_beside_its_own_image(pairs: Pairs, tmp_path: Path) -> None:
    """The report would compare the arms on different images."""
    arms = {name: [probability_png(np.full((2, 2), sign * 99.0)) for sign in signs] for name, signs in (("one", (-1, 1)), ("two", (1, -1)))}

    write_predictions(pairs, arms, tmp_path / "p.parquet")

    rows = read(tmp_path / "p.parquet")
    assert rows.column_names == ["category", "defect", "image_path", "image", "mask", "one", "two"]
    for k, row in enumerate(rows):
        assert all(isinstance(row[name], Image.Image) for name in ("image", "mask", "one", "two"))
        assert (row["image_path"], np.asarray(row["image"]).max()) == (f"{k}.png", 10 * k)
        assert (np.asarray(row["one"]).max(), np.asarray(row["two"]).max()) == (255 * k, 255 * (1 - k))
        assert np.asarray(row["mask"]).tolist() == [[255, 0], [0, 255]]


@pytest.mark.parametrize("count", [1, 3])
def test_predictions_of_other_images_are_refused(pairs: Pairs, tmp_path: Path, count: int) -> None:
    """Predictions would be shown beside images they do not belong to."""
    with pytest.raises(ValueError, match="zip"):
        write_predictions(pairs, {"real_only": count * [probability_png(np.zeros((2, 2)))]}, tmp_path / "p.parquet")
    assert not (tmp_path / "p.parquet").exists()
