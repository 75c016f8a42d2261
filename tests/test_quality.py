"""Verdicts, against arithmetic done by hand: one input for every reason, which triggers that one alone."""

import numpy as np
import pytest

from stage.datasets.pairs import Pair
from stage.datasets.windows import Window
from stage.synthesis.method import Rendered
from stage.synthesis.quality import verdict_on
from stage.synthesis.rows import Verdict

GREY = np.full((3, 3, 3), 100, np.uint8)
CENTRE = np.zeros((3, 3), np.uint8)
CENTRE[1, 1] = 1


def picture(centre: tuple[int, int, int] = (100, 100, 100), corner: tuple[int, int, int] = (100, 100, 100)) -> np.ndarray:
    pixels = GREY.copy()
    pixels[1, 1], pixels[0, 0] = centre, corner
    return pixels


def verdict_of(sample: Pair | Rendered, background: np.ndarray) -> Verdict:
    """Without a judge, whose own tests are in test_verdict.py."""
    return verdict_on(sample if isinstance(sample, Rendered) else Rendered(sample), background, "spot", None)


def test_contrast_is_the_mean_difference_inside_the_mask() -> None:
    """A column would say something else than the documentation: |130-100|, |90-100|, |101-100| have the mean 41/3."""
    assert verdict_of(Pair(picture((130, 90, 101)), CENTRE), GREY) == (13.667, 0, 1, 1, 0.0, 0.0, "", 0.0, "accepted", "")


def test_differences_do_not_wrap_around() -> None:
    """A black defect on a white part would be taken for a faint one."""
    white = np.full((2, 2, 3), 255, np.uint8)

    assert verdict_of(Pair(white * 0, np.ones((2, 2), np.uint8)), white).contrast == 255


def test_an_empty_mask_and_a_changed_background_are_named_each_alone() -> None:
    """Someone who mends what the reason names would still be left with rejected samples."""
    empty = verdict_of(Pair(picture((100, 100, 100)), CENTRE * 0), GREY)
    changed = verdict_of(Pair(picture((200, 200, 200), corner=(100, 100, 97)), CENTRE), GREY)

    assert (empty.verdict, empty.reason, empty.components) == ("rejected", "empty mask", 0)
    assert (changed.verdict, changed.reason) == ("rejected", "background changed by up to 3 of 255")


@pytest.mark.parametrize(("reach", "verdict"), [(0, "rejected"), (1, "rejected"), (2, "accepted")])
def test_a_seam_may_be_softened_as_far_as_its_method_reaches_and_no_farther(reach: int, verdict: str) -> None:
    """Every sample with a soft seam would be rejected, or a change anywhere be excused by one. Here the changed pixel is 2 px off."""
    background = np.full((5, 5, 3), 100, np.uint8)
    image, mask = background.copy(), np.zeros((5, 5), np.uint8)
    image[2, 2], mask[2, 2], image[2, 4] = 200, 1, 103

    assert verdict_of(Rendered(Pair(image, mask), reach=reach), background).verdict == verdict


@pytest.mark.parametrize(("window", "verdict"), [(Window(1, 2, 3), "accepted"), (Window(1, 1, 3), "rejected")])
def test_a_window_may_be_drawn_anew_and_nothing_beyond_it(window: Window, verdict: str) -> None:
    """Every sample of a redrawn window would be rejected, or a change anywhere be excused by one. Here column 4 is changed."""
    background = np.full((5, 5, 3), 100, np.uint8)
    image, mask = background.copy(), np.zeros((5, 5), np.uint8)
    image[2, 2], mask[2, 2], image[2, 4] = 200, 1, 103

    assert verdict_of(Rendered(Pair(image, mask), redrawn=window), background).verdict == verdict


def test_a_mask_that_covers_everything_leaves_no_outside() -> None:
    """A defect as large as the image would crash the run."""
    found = verdict_of(Pair(GREY + 50, np.ones((3, 3), np.uint8)), GREY)

    assert (found.contrast, found.outside, found.components, found.verdict) == (50.0, 0, 1, "accepted")


def spots(count: int) -> Rendered:
    """White spots of one pixel on black, none touching another."""
    image, mask = np.zeros((3, 2 * count + 1, 3), np.uint8), np.zeros((3, 2 * count + 1), np.uint8)
    image[1, 1::2], mask[1, 1::2] = 255, 1
    return Rendered(Pair(image, mask))


def test_defects_that_the_grid_does_not_hold_are_counted() -> None:
    """A sample would be published with a label for what its method could not make."""
    sample = spots(5)
    held = sample.pair.mask.astype(bool)
    held[1, [3, 7]] = False

    found = verdict_of(sample._replace(shown=held), sample.pair.image * 0)

    assert (found.components, found.visible, found.verdict) == (5, 3, "rejected")
    assert found.reason == "2 of 5 defects have no cell on the latent grid"


@pytest.mark.parametrize(("pixels", "verdict"), [(5, "accepted"), (4, "rejected")])
def test_a_defect_is_held_by_half_of_its_pixels(pixels: int, verdict: str) -> None:
    """Large defects would be rejected for a corner that the grid rounds away, or a scratch accepted of which one end was made."""
    sample = Pair(GREY + 50, np.ones((3, 3), np.uint8))
    held = np.arange(9).reshape(3, 3) < pixels

    assert verdict_of(Rendered(sample, held), GREY).verdict == verdict


def test_pixels_that_touch_at_a_corner_are_one_defect() -> None:
    """A diagonal scratch would be judged pixel by pixel."""
    sample = Pair(np.zeros((2, 2, 3), np.uint8), np.eye(2, dtype=np.uint8))

    assert verdict_of(sample, sample.image).components == 1
