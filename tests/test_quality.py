"""Verdicts, against arithmetic done by hand: one input for every reason, which triggers that one alone."""

import numpy as np
import pytest

from stage.datasets.pairs import Pair
from stage.synthesis.method import Rendered
from stage.synthesis.quality import judge

GREY = np.full((3, 3, 3), 100, np.uint8)
CENTRE = np.zeros((3, 3), np.uint8)
CENTRE[1, 1] = 1


def picture(centre: tuple[int, int, int] = (100, 100, 100), corner: tuple[int, int, int] = (100, 100, 100)) -> np.ndarray:
    pixels = GREY.copy()
    pixels[1, 1], pixels[0, 0] = centre, corner
    return pixels


def test_contrast_is_the_mean_difference_inside_the_mask() -> None:
    """The threshold would mean something else than the documentation says: |130-100|, |90-100|, |101-100| have the mean 41/3."""
    verdict = judge(Rendered(Pair(picture((130, 90, 101)), CENTRE)), GREY, 8.0)

    assert verdict == (13.667, 0, 1, 1, "accepted", "")


def test_differences_do_not_wrap_around() -> None:
    """A black defect on a white part would be taken for a faint one."""
    white = np.full((2, 2, 3), 255, np.uint8)

    assert judge(Rendered(Pair(white * 0, np.ones((2, 2), np.uint8))), white, 8.0).contrast == 255


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (Pair(picture((107, 107, 107)), CENTRE), "faint: 1 of 1 defects, contrast down to 7 of 255, under 8"),
        (Pair(picture((200, 200, 200)), CENTRE * 0), "empty mask"),
        (Pair(picture((200, 200, 200), corner=(100, 100, 97)), CENTRE), "background changed by up to 3 of 255"),
    ],
    ids=["faint", "empty mask", "changed background"],
)
def test_every_reason_has_an_input_that_triggers_it_and_no_other(sample: Pair, reason: str) -> None:
    """Someone who mends what the reason names would still be left with rejected samples."""
    verdict = judge(Rendered(sample), GREY, 8.0)

    assert (verdict.verdict, verdict.reason) == ("rejected", reason)


def test_a_sample_can_be_bad_in_two_ways() -> None:
    """The second reason would show only when the first is mended."""
    verdict = judge(Rendered(Pair(picture(corner=(90, 100, 100)), CENTRE)), GREY, 8.0)

    reason = "faint: 1 of 1 defects, contrast down to 0 of 255, under 8; background changed by up to 10 of 255"
    assert verdict == (0.0, 10, 1, 0, "rejected", reason)


def test_a_sample_at_the_threshold_is_accepted() -> None:
    """Who queries `contrast >= contrast_threshold` would find other samples than the accepted ones."""
    assert judge(Rendered(Pair(picture((108, 108, 108)), CENTRE)), GREY, 8.0).verdict == "accepted"


def test_the_recorded_contrast_is_the_one_that_was_judged() -> None:
    """A row would say `contrast 8.0` and be rejected for less than 8.0: here the mean is 7.99967, which is recorded as 8.0."""
    mask = np.ones((1, 1000), np.uint8)
    background = np.zeros((1, 1000, 3), np.uint8)
    brighter = np.full_like(background, 8)
    brighter[0, 0, 0] = 7

    verdict = judge(Rendered(Pair(brighter, mask)), background, 8.0)

    assert (verdict.contrast, verdict.verdict) == (8.0, "accepted")


@pytest.mark.parametrize(("reach", "verdict"), [(0, "rejected"), (1, "rejected"), (2, "accepted")])
def test_a_seam_may_be_softened_as_far_as_its_method_reaches_and_no_farther(reach: int, verdict: str) -> None:
    """Every sample with a soft seam would be rejected, or a change anywhere be excused by one. Here the changed pixel is 2 px off."""
    background = np.full((5, 5, 3), 100, np.uint8)
    image, mask = background.copy(), np.zeros((5, 5), np.uint8)
    image[2, 2], mask[2, 2], image[2, 4] = 200, 1, 103

    assert judge(Rendered(Pair(image, mask), reach=reach), background, 8.0).verdict == verdict


def test_a_mask_that_covers_everything_leaves_no_outside() -> None:
    """A defect as large as the image would crash the run."""
    assert judge(Rendered(Pair(GREY + 50, np.ones((3, 3), np.uint8))), GREY, 8.0) == (50.0, 0, 1, 1, "accepted", "")


def spots(*brightness: int) -> tuple[Rendered, np.ndarray]:
    """Spots of one pixel on black, each as bright as given, none touching another; and the black."""
    black = np.zeros((3, 2 * len(brightness) + 1, 3), np.uint8)
    image, mask = black.copy(), np.zeros(black.shape[:2], np.uint8)
    image[1, 1::2], mask[1, 1::2] = np.array(brightness)[:, None], 1
    return Rendered(Pair(image, mask)), black


def test_one_faint_defect_among_bright_ones_rejects_the_sample() -> None:
    """A label would stand where nothing can be seen: on average, 5 and 255 and 255 are bright enough."""
    verdict = judge(*spots(255, 5, 255), 8.0)

    assert (verdict.components, verdict.visible, verdict.verdict) == (3, 2, "rejected")
    assert verdict.reason == "faint: 1 of 3 defects, contrast down to 5 of 255, under 8"
    assert verdict.contrast == pytest.approx((255 + 5 + 255) / 3, abs=5e-4)


def test_defects_that_the_grid_does_not_hold_are_counted() -> None:
    """A sample would be published with a label for what its method could not make, or blamed on faintness alone."""
    sample, black = spots(255, 0, 3, 0, 255)
    held = sample.pair.mask.astype(bool)
    held[1, [3, 7]] = False

    verdict = judge(sample._replace(shown=held), black, 8.0)

    assert (verdict.components, verdict.visible, verdict.verdict) == (5, 2, "rejected")
    assert verdict.reason == "2 of 5 defects have no cell on the latent grid; faint: 1 of 5 defects, contrast down to 3 of 255, under 8"


def test_a_defect_without_a_cell_is_rejected_however_it_looks() -> None:
    """What the codec changed at its place would pass for a defect."""
    sample, black = spots(255)
    verdict = judge(sample._replace(shown=np.zeros(sample.pair.mask.shape, bool)), black, 8.0)

    assert (verdict.visible, verdict.reason) == (0, "1 of 1 defects have no cell on the latent grid")


@pytest.mark.parametrize(("pixels", "verdict"), [(5, "accepted"), (4, "rejected")])
def test_a_defect_is_held_by_half_of_its_pixels(pixels: int, verdict: str) -> None:
    """Large defects would be rejected for a corner that the grid rounds away, or a scratch accepted of which one end was made."""
    sample = Pair(GREY + 50, np.ones((3, 3), np.uint8))
    held = np.arange(9).reshape(3, 3) < pixels

    assert judge(Rendered(sample, held), GREY, 8.0).verdict == verdict


def test_pixels_that_touch_at_a_corner_are_one_defect() -> None:
    """A diagonal scratch would be judged pixel by pixel, and rejected for its darkest one: 0 and 100 have the mean 50."""
    sample = Pair(np.zeros((2, 2, 3), np.uint8), np.eye(2, dtype=np.uint8))
    sample.image[1, 1] = 100

    verdict = judge(Rendered(sample), np.zeros((2, 2, 3), np.uint8), 8.0)

    assert (verdict.components, verdict.visible, verdict.contrast) == (1, 1, 50.0)


def test_five_hundred_defects_are_each_judged() -> None:
    """Masks of noise have so many; each is compared with arithmetic on its own pixel."""
    brightness = np.random.default_rng(0).integers(0, 20, 500)
    verdict = judge(*spots(*brightness.tolist()), 8.0)

    assert (verdict.components, verdict.visible) == (500, int((brightness >= 8).sum()))
