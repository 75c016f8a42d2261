import numpy as np
import pytest

from stage.datasets.windows import TURNS, turn

LETTER = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])


def test_turn_zero_changes_nothing():
    """Otherwise `real` masks would not be the masks as they are."""
    assert np.array_equal(turn(LETTER, 0), LETTER)


def test_turns_are_the_eight_symmetries_of_the_square():
    """Otherwise variants would repeat and the training set be smaller than it says."""
    seen = {turn(LETTER, k).tobytes() for k in range(TURNS)}
    assert len(seen) == TURNS == 8


@pytest.mark.parametrize(
    ("k", "corner"),
    [(0, [1, 2, 3]), (1, [3, 6, 9]), (2, [9, 8, 7]), (3, [7, 4, 1]), (4, [3, 2, 1]), (5, [9, 6, 3]), (6, [7, 8, 9]), (7, [1, 4, 7])],
)
def test_first_row_of_each_turn_by_hand(k, corner):
    """Otherwise a recorded turn would mean another picture than it did when the sample was made."""
    assert turn(LETTER, k)[0].tolist() == corner


@pytest.mark.parametrize("k", range(TURNS))
def test_image_and_mask_turn_alike(k):
    """Otherwise a mask would mark a place where its defect is not."""
    image = np.zeros((5, 5, 3), np.uint8)
    mask = np.zeros((5, 5), np.uint8)
    image[1, 3] = mask[1, 3] = 7
    assert np.array_equal(turn(image, k)[..., 0], turn(mask, k))
    assert turn(image, k).flags["C_CONTIGUOUS"]
