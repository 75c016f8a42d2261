"""DRAEM: its ten augmenters against Pillow and arithmetic, its opacity and its masks."""

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from test_perlin import PARAMS as PERLIN

from stage.core.synthesis_params import Draem
from stage.datasets.blending import mixed
from stage.datasets.components import components
from stage.synthesis.augmenters import AUGMENTERS, augmented, drawn
from stage.synthesis.methods.draem import DraemRule

PAPER = Draem(preset="paper", opacity=(0.2, 1.0), augmenters=3, visible=8.0)
QUALITY = PAPER.model_copy(update={"preset": "quality"})


class Fixed:
    """A generator whose draws are given."""

    def __init__(self, *values: object) -> None:
        self.values = list(values)

    def uniform(self, *_: object, **__: object) -> object:
        return self.values.pop(0)

    integers = random = uniform


@pytest.fixture
def picture() -> np.ndarray:
    """Colours of every level, smooth enough to have grey tones between them."""
    rows, columns = np.mgrid[:48, :64]
    return np.stack([4 * columns, 255 - 5 * rows, (7 * rows + 3 * columns) % 256], axis=2).astype(np.uint8)


def test_tones_are_pillows(picture: np.ndarray) -> None:
    """DRAEM's textures would not be those of its paper."""
    image = Image.fromarray(picture)
    pillow = {
        "autocontrast": (Fixed(7), ImageOps.autocontrast(image, cutoff=7)),
        "equalise": (Fixed(), ImageOps.equalize(image)),
        "invert": (Fixed(), ImageOps.invert(image)),
        "posterise": (Fixed(3), ImageOps.posterize(image, 3)),
        "solarise": (Fixed(100, 0.4), ImageOps.solarize(image, 100)),
    }
    for name, (random, expected) in pillow.items():
        assert np.array_equal(AUGMENTERS[name](picture, random), np.array(expected)), name  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 2.0])
def test_sharpness_is_pillows_but_for_its_rounding(picture: np.ndarray, factor: float) -> None:
    """Pillow rounds twice."""
    expected = np.array(ImageEnhance.Sharpness(Image.fromarray(picture)).enhance(factor)).astype(int)

    assert np.abs(AUGMENTERS["sharpness"](picture, Fixed(factor)) - expected).max() <= 2  # pyright: ignore[reportArgumentType]


def test_gamma_is_per_channel() -> None:
    """64 of 255 to the power of 2 is 16 of 255; to the power of 0.5 it is 128."""
    grey = np.full((2, 2, 3), 64, np.uint8)

    assert AUGMENTERS["gamma"](grey, Fixed(np.array([2.0, 1.0, 0.5])))[0, 0].tolist() == [16, 64, 128]  # pyright: ignore[reportArgumentType]


def test_brightness_is_multiplied_and_added_to_in_either_order() -> None:
    """In HSV, 100 x 1.2 + 30 = 150, and (100 + 30) x 1.2 = 156."""
    grey = np.full((2, 2, 3), 100, np.uint8)
    for first, expected in ((0.4, 150), (0.6, 156)):
        assert AUGMENTERS["brightness"](grey, Fixed(1, 1.2, 30.0, first))[0, 0].tolist() == [expected] * 3  # pyright: ignore[reportArgumentType]


def test_the_hue_turns_by_at_most_seventy_degrees() -> None:
    """Red turned by 50 of 255 of the circle has hue 35 of 180."""
    red = np.zeros((1, 1, 3), np.uint8)
    red[..., 0] = 255
    turned = AUGMENTERS["hue_and_saturation"](red, Fixed(np.array([50, 0])))[0, 0]  # pyright: ignore[reportArgumentType]

    assert turned[0] > 200
    assert turned[1] == 255
    assert turned[2] == 0


def test_a_picture_is_turned_about_its_centre_with_black_corners() -> None:
    """The texture would leave the sample, or bring a frame of its own."""
    white = np.full((41, 41, 3), 255, np.uint8)
    turned = AUGMENTERS["rotate"](white, Fixed(45.0))  # pyright: ignore[reportArgumentType]

    assert turned[20, 20].tolist() == [255] * 3
    assert turned[0, 0].tolist() == turned[-1, -1].tolist() == [0] * 3


@pytest.mark.parametrize("shape", [(1, 1), (30, 50), (300, 300)])
def test_every_augmenter_takes_any_size_and_grey(shape: tuple[int, int]) -> None:
    """A folder of textures of all sizes would end in a traceback."""
    random = np.random.default_rng(0)
    grey = np.repeat(random.integers(0, 256, (*shape, 1), dtype=np.uint8), 3, axis=2)
    for name in AUGMENTERS:
        found = augmented(grey, [name], random)

        assert (found.shape, found.dtype) == (grey.shape, np.uint8), name


def test_three_different_augmenters_are_drawn_equally_often() -> None:
    """One of the ten would never be seen."""
    random = np.random.default_rng(0)
    triples = [drawn([*AUGMENTERS], 3, random) for _ in range(2000)]

    assert all(len(set(triple)) == 3 for triple in triples)
    assert all(540 < sum(name in triple for triple in triples) < 660 for name in AUGMENTERS)


def test_opacity_is_that_of_the_released_code() -> None:
    """Beta of the code is the photograph's share: with the paper's reading of it, defects would be fainter."""
    random = np.random.default_rng(0)
    opacities = [DraemRule(PAPER, PERLIN).opacity(random) for _ in range(2000)]

    assert 0.2 <= min(opacities) < 0.21
    assert 0.99 < max(opacities) <= 1
    assert abs(np.mean(opacities) - 0.6) < 0.02


@pytest.mark.parametrize("opacity", [0.0, 0.25, 1.0])
def test_blending_is_affine_inside_and_exact_outside(opacity: float) -> None:
    """The label would not say where the photograph was changed."""
    random = np.random.default_rng(0)
    image, anomaly = (random.integers(0, 256, (20, 30, 3), dtype=np.uint8) for _ in range(2))
    mask = np.zeros((20, 30), np.uint8)
    mask[5:9, 7:20] = 1
    found = mixed(anomaly, image, mask, opacity)

    assert np.array_equal(found[mask == 0], image[mask == 0])
    assert np.abs(found[mask > 0] - (opacity * anomaly[mask > 0] + (1 - opacity) * image[mask > 0].astype(float))).max() <= 0.5


@pytest.mark.parametrize("shape", [(64, 64), (60, 80)])
def test_the_presets_differ_in_their_masks(shape: tuple[int, int]) -> None:
    """The published masks have a hundred parts and lie anywhere; the others would not do for the real world."""
    random, part = np.random.default_rng(0), np.zeros(shape, np.uint8)
    part[20:50, 10:40] = 1
    paper = [DraemRule(PAPER, PERLIN).mask(np.ones_like(part), random).mask for _ in range(100)]
    quality = [DraemRule(QUALITY, PERLIN).mask(part, random).mask for _ in range(100)]

    assert all(mask.any() for mask in paper + quality)
    assert not any((mask > part).any() for mask in quality)
    assert max(components(mask).max() for mask in paper) > 3 * max(components(mask).max() for mask in quality)
