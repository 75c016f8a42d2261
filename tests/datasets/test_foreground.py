"""The object of a photograph: found where there is one, and never invented on a texture."""

import time
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.morphology import disk

from stage.core.data_params import Foreground
from stage.core.params import load_params
from stage.datasets.channels import between_class_share
from stage.datasets.demo.dataset import draw
from stage.datasets.demo.washer import draw_washer
from stage.datasets.foreground import channel, cleaned, foreground
from stage.datasets.resize import resize_image, resize_mask

SIDE = 64


@pytest.fixture
def params() -> Foreground:
    return load_params(Path(__file__).parents[2] / "params.yaml").prepare.foreground


def picture(part: np.ndarray, *, inside: int, outside: int) -> np.ndarray:
    """Grey levels with a little noise."""
    grey = np.where(part, inside, outside)[..., None] + np.random.default_rng(0).integers(-4, 5, (*part.shape, 1))
    return np.repeat(np.clip(grey, 0, 255), 3, axis=2).astype(np.uint8)


def square(top: int, left: int, side: int) -> np.ndarray:
    part = np.zeros((SIDE, SIDE), bool)
    part[top : top + side, left : left + side] = True
    return part


def grey(params: Foreground, **changes: object) -> Foreground:
    return params.model_copy(update={"channel": "grey", "opening": 0, "closing": 0, **changes})


@pytest.mark.parametrize("size", [64, 128, 256])
def test_a_washer_is_found_without_its_hole_and_shadow(params: Foreground, size: int) -> None:
    """Defects would be drawn in the washer's hole or beside it. The drawing itself says where the metal is."""
    for seed in range(8):
        washer = draw_washer(np.random.default_rng(seed))
        metal = resize_mask((washer.metal >= 0.5).astype(np.uint8), size)
        outline = foreground(resize_image(np.rint(washer.picture).astype(np.uint8), size), params)

        assert outline.strategy == "threshold"
        assert (outline.mask & metal).sum() / (outline.mask | metal).sum() > 0.95
        assert not outline.mask[size // 2 - 4 : size // 2 + 4, size // 2 - 4 : size // 2 + 4].any()


def test_cloth_is_all_object(params: Foreground) -> None:
    """Defects would be kept out of parts of the cloth."""
    for index in range(16):
        outline = foreground(resize_image(draw("fabric", "train", "good", index, seed=1).image, SIDE), params)
        assert outline.mask.all()
        assert outline.strategy == "none"
        assert "of its border is background" in outline.note


@pytest.mark.parametrize(("inside", "outside"), [(200, 40), (40, 200)])
@pytest.mark.parametrize("threshold", ["otsu", "triangle", 120])
def test_the_object_is_the_side_that_the_border_is_not_on(params: Foreground, inside: int, outside: int, threshold: str | int) -> None:
    """The background would be taken for the part, for half of all set-ups."""
    part = square(20, 24, 20)
    outline = foreground(picture(part, inside=inside, outside=outside), grey(params, threshold=threshold))

    assert np.array_equal(outline.mask, part)
    assert outline.note == ""


@pytest.mark.parametrize(("given", "is_found"), [("bright", True), ("dark", False)])
def test_a_given_side_is_obeyed(params: Foreground, given: str, is_found: bool) -> None:
    """A user who knows which side the object is on would be overruled."""
    outline = foreground(picture(square(20, 20, 20), inside=200, outside=40), grey(params, object_is=given))

    assert bool(outline.note) != is_found


@pytest.mark.parametrize(
    ("part", "note"),
    [
        (square(0, 0, 32), "75% of its border is background"),
        (square(20, 20, 3), "an object would cover 0.2% of it"),
        (square(20, 20, 7), ""),
        (square(1, 1, 62), ""),
    ],
)
def test_an_unlikely_object_is_the_whole_image_with_a_reason(params: Foreground, part: np.ndarray, note: str) -> None:
    """Masks would be crowded onto a speck, or a frame be kept free of defects. By hand: 9 of 4096 px; half of two sides."""
    outline = foreground(picture(part, inside=200, outside=40), grey(params))

    assert outline.note == (f"whole image: {note}" if note else "")
    assert np.array_equal(outline.mask, np.ones_like(part) if note else part)


def test_one_colour_everywhere_is_no_object(params: Foreground) -> None:
    """Grey photographs have no saturation: a threshold of nothing would end in a traceback of scikit-image."""
    outline = foreground(picture(square(20, 20, 20), inside=200, outside=40), params)

    assert outline.mask.all()
    assert outline.note == "whole image: its saturation is 0 everywhere"


def test_specks_vanish_gaps_close_and_holes_are_kept_or_filled(params: Foreground) -> None:
    """A speck of dust would be an object, or a groove in the part no part of it."""
    part, hole, speck = square(16, 16, 32), square(26, 26, 12), square(4, 50, 2)
    groove = square(20, 20, 24) & ~square(21, 20, 24)  # one pixel wide
    seen = (part & ~hole & ~groove) | speck
    image = picture(seen, inside=200, outside=40)

    rough, opened, closed, filled = (
        foreground(image, grey(params, largest=False, **changes)).mask.astype(bool)
        for changes in ({}, {"opening": 2}, {"closing": 2}, {"fill_holes": True})
    )

    assert np.array_equal(rough, seen)
    assert opened[part].any()
    assert not (opened & speck).any()
    assert closed[groove].all()
    assert not closed[30:34, 30:34].any()
    assert np.array_equal(filled, part | speck)


@pytest.mark.parametrize(("opening", "closing"), [(0, 0), (1, 2), (3, 0), (0, 4), (5, 3)])
def test_the_cleaning_is_opening_and_closing_by_disks(params: Foreground, opening: int, closing: int) -> None:
    """The radii of params.yaml would mean something else. SciPy's own operations say what they mean."""
    reach, random = opening + closing, np.random.default_rng(opening)
    for share in (0.02, 0.5, 0.98):
        part = random.random((24, 30)) < share
        padded = np.pad(part, reach, mode="edge")
        wanted = ndimage.binary_closing(ndimage.binary_opening(padded, disk(opening)), disk(closing))

        found = cleaned(part, params.model_copy(update={"opening": opening, "closing": closing, "largest": False, "fill_holes": False}))
        np.testing.assert_array_equal(found, wanted[reach : reach + 24, reach : reach + 30])


def test_a_large_radius_costs_no_more_than_a_small_one(params: Foreground) -> None:
    """A radius that a large photograph needs would take minutes for each image. 100 px took over ten seconds by SciPy's operations."""
    part = np.zeros((1024, 1024), bool)
    part[300:700, 300:700] = True
    begun = time.process_time()
    cleaned(part, params.model_copy(update={"opening": 100, "closing": 100}))

    assert time.process_time() - begun < 5


def test_the_largest_part_is_kept(params: Foreground) -> None:
    """A second thing on the table would get the part's defects."""
    image = picture(square(4, 4, 20) | square(30, 30, 30), inside=200, outside=40)

    assert np.array_equal(foreground(image, grey(params, largest=True)).mask, square(30, 30, 30))
    assert foreground(image, grey(params, largest=False)).mask.sum() == 400 + 900


def test_channels_are_worked_out_by_hand() -> None:
    """Another channel than named would be compared."""
    image = np.array([[[200, 100, 50], [10, 20, 30], [0, 0, 0]]], np.uint8)

    assert channel(image, "red").tolist() == [[200, 10, 0]]
    assert channel(image, "green").tolist() == [[100, 20, 0]]
    assert channel(image, "blue").tolist() == [[50, 30, 0]]
    assert channel(image, "grey").tolist() == [[124, 18, 0]]  # 59.8 + 58.7 + 5.7; 2.99 + 11.74 + 3.42
    assert channel(image, "saturation").tolist() == [[191, 170, 0]]  # 255 * 150 / 200; 255 * 20 / 30


def test_no_strategy_is_the_whole_image_without_a_note(params: Foreground) -> None:
    """`none` would look for an object after all, or report a failure."""
    outline = foreground(picture(square(20, 20, 20), inside=200, outside=40), grey(params, strategy="none"))

    assert outline.mask.all()
    assert (outline.strategy, outline.note) == ("none", "")


@pytest.mark.parametrize(("values", "share"), [([7, 7], 0), ([0, 0, 200], 1), ([0, 10, 20, 30], 0.8), ([0, 30, 60], 0.75)])
def test_the_share_of_the_variance_between_both_sides(values: list[int], share: float) -> None:
    """The channel would be chosen by chance. By hand: 0, 10 | 20, 30 has means of 5 and 25, so 10^2 of a variance of 125."""
    assert between_class_share(np.array([values], np.uint8)) == pytest.approx(share)
