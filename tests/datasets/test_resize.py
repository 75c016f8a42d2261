"""The resize rule: areas are kept where they can be, and no defect is lost."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from stage.datasets.resize import resize_image, resize_mask

masks = st.tuples(st.integers(1, 40), st.integers(1, 40)).flatmap(lambda shape: arrays.arrays(np.uint8, shape, elements=st.integers(0, 1)))


def test_cell_is_defect_from_half_its_area_on() -> None:
    """Masks would grow or shrink when they are reduced."""
    mask = np.zeros((8, 8), np.uint8)
    mask[:4, :2] = 1  # half of the upper left cell
    mask[:4, 4:7] = 1  # three quarters of the upper right one

    assert resize_mask(mask, 2).tolist() == [[1, 1], [0, 0]]


def test_half_is_half_where_the_sizes_do_not_divide() -> None:
    """A rounded fraction would decide about the edge. 10 -> 3: the middle cell is 2/3 + 1 + 1 + 2/3 wide; 2/3 + 1 is its half."""
    mask = np.zeros((10, 10), np.uint8)
    mask[:, 3:5] = 1

    assert resize_mask(mask, 3).tolist() == [[0, 1, 0]] * 3


def test_a_spot_of_one_pixel_keeps_the_cell_it_lies_in() -> None:
    """The smallest defects would vanish from the data set."""
    mask = np.zeros((64, 48), np.uint8)
    mask[63, 0] = mask[10, 20] = 1
    prepared = resize_mask(mask, 4)

    assert np.argwhere(prepared).tolist() == [[0, 1], [3, 0]]


@pytest.mark.parametrize("width", [1, 2, 3])
@pytest.mark.parametrize("row", range(500, 508))
def test_a_thin_line_stays_a_line(width: int, row: int) -> None:
    """A scratch would be one pixel of the label wherever it does not meet the grid, and all of it in the photograph."""
    mask = np.zeros((1024, 1024), np.uint8)
    mask[row : row + width, 20:1000] = 1

    assert resize_mask(mask, 256).any(0).sum() == 245


def test_a_diagonal_hair_stays_a_hair() -> None:
    """As a line along the grid; a cell of its path may hold little of it."""
    prepared = resize_mask(np.eye(1000, dtype=np.uint8), 250)

    assert prepared.any(0).all()
    assert prepared.sum() <= 2 * 250


@pytest.mark.parametrize("shape", [(30, 30), (31, 64), (5, 3)])
def test_empty_and_full_masks_stay_so(shape: tuple[int, int]) -> None:
    """A normal image would get a defect, or a whole defect an edge."""
    assert not resize_mask(np.zeros(shape, np.uint8), 7).any()
    assert resize_mask(np.ones(shape, np.uint8), 7).all()


@settings(deadline=None, max_examples=60)
@given(masks, st.integers(1, 12))
def test_every_spot_touches_a_cell_and_every_cell_a_spot(mask: np.ndarray, size: int) -> None:
    """A defect would be lost, or one would appear where there is none."""
    prepared = resize_mask(mask, size)
    height, width = mask.shape
    fine = np.kron(mask, np.ones((size, size), np.uint8))  # each pixel as size x size points
    cells = np.kron(prepared, np.ones((height, width), np.uint8))  # each cell as height x width points: the same grid
    spots, count = ndimage.label(fine, structure=np.ones((3, 3)))

    assert set(np.unique(spots[cells == 1])) >= set(range(1, count + 1))
    for row, column in np.argwhere(prepared):
        assert fine[row * height : (row + 1) * height, column * width : (column + 1) * width].any()


@settings(deadline=None, max_examples=30)
@given(masks, st.integers(1, 12))
def test_cells_of_half_coverage_are_kept_by_a_count_of_points(mask: np.ndarray, size: int) -> None:
    """The matrix product is checked against counting points on the common grid."""
    height, width = mask.shape
    points = np.kron(mask, np.ones((size, size), np.uint8)).reshape(size, height, size, width)
    coverage = points.sum(axis=(1, 3))

    assert resize_mask(mask, size)[2 * coverage >= height * width].all()


def test_image_of_the_right_size_is_untouched() -> None:
    """Preparing prepared images would blur them."""
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)

    assert np.array_equal(resize_image(pixels, 16), pixels)


def test_reduction_is_antialiased_and_not_square_images_become_square() -> None:
    """Fine stripes would turn into coarse ones (the mean of 0 and 200 is 100)."""
    stripes = np.zeros((64, 128, 3), np.uint8)
    stripes[:, ::2] = 200
    small = resize_image(stripes, 8)

    assert small.shape == (8, 8, 3)
    assert np.abs(small[:, 1:-1].astype(int) - 100).max() <= 3
