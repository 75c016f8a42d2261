"""Likeness of photographs: what the defect covers does not count, and a type without a like normal image is named."""

from pathlib import Path

import numpy as np
import pytest
from miniatures import SIZE
from numpy.typing import NDArray
from PIL import Image

from stage.core.params import load_params
from stage.datasets.catalog import prepare
from stage.datasets.likeness import Likeness

Pixels = NDArray[np.uint8]
NOTHING = np.zeros((64, 64), np.uint8)


def ramp(angle: float, light: int = 0) -> Pixels:
    """A photograph (64, 64, 3) whose brightness rises in a direction."""
    rows, columns = np.mgrid[:64, :64]
    grey = 64 + light + rows * np.sin(angle) + columns * np.cos(angle)
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def test_the_nearest_photograph_comes_first() -> None:
    """Defects would lie on parts in another position."""
    likeness = Likeness([ramp(0.0), ramp(0.5), ramp(1.5)])

    assert likeness.nearest(ramp(0.45), NOTHING, 3) == [1, 0, 2]


def test_the_defect_itself_does_not_count() -> None:
    """A large dark defect would be taken for a dark photograph, and get a background in another light."""
    normals, image, mask = [ramp(0.0), ramp(0.0, light=-40)], ramp(0.0), NOTHING.copy()
    mask[:40] = 1
    image[:40] = 0
    likeness = Likeness(normals)

    assert likeness.distances(image, NOTHING)[0] > 50
    assert likeness.nearest(image, mask, 1) == [0]
    assert likeness.distances(image, mask)[0] < 5  # resampling blurs a little across the border of a cell


def test_a_defect_that_covers_the_photograph_still_gets_a_background() -> None:
    """A plan would end in an error of NumPy's."""
    found = Likeness([ramp(0.0), ramp(1.0)]).distances(ramp(0.0), np.ones((64, 64), np.uint8))

    assert found[0] < found[1]


def test_usual_distances_are_those_of_normal_photographs() -> None:
    """Every type would be named, or none."""
    assert Likeness([ramp(0.0), ramp(1.0)]).usual() == np.inf
    assert Likeness([ramp(0.0), ramp(0.01), ramp(0.02)]).usual() < 1


@pytest.mark.parametrize(("light", "is_named"), [(0, False), (90, True)])
def test_a_type_that_was_photographed_otherwise_is_named(tmp_path: Path, light: int, is_named: bool) -> None:
    """Samples with backgrounds that do not fit would harm a segmenter, and nobody would know why."""
    for place, angles in (("train/good", (0.0, 0.1, 0.2, 0.3)), ("test/dent", (0.05, 0.15, 0.25))):
        (tmp_path / "raw/part" / place).mkdir(parents=True)
        for number, angle in enumerate(angles):
            pixels = ramp(angle, light if "dent" in place else 0)
            pixels[:8, :8] = 255
            Image.fromarray(pixels).save(tmp_path / f"raw/part/{place}/{number}.png")
    (tmp_path / "raw/part/ground_truth/dent").mkdir(parents=True)
    mask = NOTHING.copy()
    mask[20:30, 20:30] = 255
    for number in range(3):
        Image.fromarray(mask).save(tmp_path / f"raw/part/ground_truth/dent/{number}_mask.png")
    params = load_params(Path(__file__).parents[2] / "params.yaml").prepare.model_copy(update={"layout": "mvtec", "image_size": SIZE})

    warnings = prepare(params, ("part",), tmp_path / "raw", tmp_path / "out").warnings

    assert is_named == any("part, dent: 1 of 1 training photographs are unlike every normal one" in one for one in warnings)
