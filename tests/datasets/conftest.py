"""A small data set in MVTec AD's layout, of which each test spoils one thing."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stage.core.data_params import Prepare
from stage.core.params import load_params

HEIGHT, WIDTH = 24, 32
Draw = Callable[..., Path]


@pytest.fixture
def params() -> Prepare:
    prepare = load_params(Path(__file__).parents[2] / "params.yaml").prepare
    return prepare.model_copy(update={"layout": "mvtec", "image_size": 16, "max_megapixels": 1.0})


@pytest.fixture
def draw(tmp_path: Path) -> Draw:
    """Write an image that no other is equal to, or a mask with one square of defect, below the data folder."""
    random = np.random.default_rng(0)

    def write(path: str, *, is_mask: bool = False) -> Path:
        pixels = random.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        if is_mask:
            pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
            pixels[6:12, 8:16] = 255
        target = tmp_path / "data" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(target)
        return target

    return write


@pytest.fixture
def mvtec(tmp_path: Path, draw: Draw) -> Path:
    """Category `part`: four normal images to train, two to test, seven with a crack and four with a spot."""
    for number in range(4):
        draw(f"part/train/good/{number:03}.png")
    for number in range(2):
        draw(f"part/test/good/{number:03}.png")
    for defect, count in (("crack", 7), ("spot", 4)):
        for number in range(count):
            draw(f"part/test/{defect}/{number:03}.png")
            draw(f"part/ground_truth/{defect}/{number:03}_mask.png", is_mask=True)
    return tmp_path / "data"
