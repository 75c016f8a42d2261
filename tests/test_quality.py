"""Verdicts, against arithmetic done by hand: one input for every reason, which triggers that one alone."""

import numpy as np
import pytest

from stage.pairs import Pair
from stage.quality import judge

GREY = np.full((3, 3, 3), 100, np.uint8)
CENTRE = np.zeros((3, 3), np.uint8)
CENTRE[1, 1] = 1


def picture(centre: tuple[int, int, int] = (100, 100, 100), corner: tuple[int, int, int] = (100, 100, 100)) -> np.ndarray:
    pixels = GREY.copy()
    pixels[1, 1], pixels[0, 0] = centre, corner
    return pixels


def test_contrast_is_the_mean_difference_inside_the_mask() -> None:
    """The threshold would mean something else than the documentation says: |130-100|, |90-100|, |101-100| have the mean 41/3."""
    verdict = judge(Pair(picture((130, 90, 101)), CENTRE), GREY, 8.0)

    assert verdict == (13.667, 0, "accepted", "")


def test_differences_do_not_wrap_around() -> None:
    """A black defect on a white part would be taken for a faint one."""
    white = np.full((2, 2, 3), 255, np.uint8)

    assert judge(Pair(white * 0, np.ones((2, 2), np.uint8)), white, 8.0).contrast == 255


@pytest.mark.parametrize(
    ("sample", "reason"),
    [
        (Pair(picture((107, 107, 107)), CENTRE), "faint: contrast 7 of 255 is under 8"),
        (Pair(picture((200, 200, 200)), CENTRE * 0), "empty mask"),
        (Pair(picture((200, 200, 200), corner=(100, 100, 97)), CENTRE), "background changed by up to 3 of 255"),
    ],
    ids=["faint", "empty mask", "changed background"],
)
def test_every_reason_has_an_input_that_triggers_it_and_no_other(sample: Pair, reason: str) -> None:
    """Someone who mends what the reason names would still be left with rejected samples."""
    verdict = judge(sample, GREY, 8.0)

    assert (verdict.verdict, verdict.reason) == ("rejected", reason)


def test_a_sample_can_be_bad_in_two_ways() -> None:
    """The second reason would show only when the first is mended."""
    verdict = judge(Pair(picture(corner=(90, 100, 100)), CENTRE), GREY, 8.0)

    assert verdict == (0.0, 10, "rejected", "faint: contrast 0 of 255 is under 8; background changed by up to 10 of 255")


def test_a_sample_at_the_threshold_is_accepted() -> None:
    """Who queries `contrast >= min_contrast` would find other samples than the accepted ones."""
    assert judge(Pair(picture((108, 108, 108)), CENTRE), GREY, 8.0).verdict == "accepted"


def test_the_recorded_contrast_is_the_one_that_was_judged() -> None:
    """A row would say `contrast 8.0` and be rejected for less than 8.0: here the mean is 7.99967, which is recorded as 8.0."""
    mask = np.ones((1, 1000), np.uint8)
    background = np.zeros((1, 1000, 3), np.uint8)
    brighter = np.full_like(background, 8)
    brighter[0, 0, 0] = 7

    verdict = judge(Pair(brighter, mask), background, 8.0)

    assert (verdict.contrast, verdict.verdict) == (8.0, "accepted")


def test_a_mask_that_covers_everything_leaves_no_outside() -> None:
    """A defect as large as the image would crash the run."""
    assert judge(Pair(GREY + 50, np.ones((3, 3), np.uint8)), GREY, 8.0) == (50.0, 0, "accepted", "")
