import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from stage.datasets.blending import paste_back
from stage.datasets.components import bounding_box
from stage.model.masks import area_balance, latent_mask

SIZE = 24


def blank():
    return np.zeros((SIZE, SIZE), np.uint8)


def rectangle(height, width):
    mask = blank()
    mask[4 : 4 + height, 4 : 4 + width] = 1
    return mask


def photographs(seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.uint8)


@pytest.mark.parametrize("factor", [4, 8])
def test_a_cell_that_is_half_defect_is_defect_in_the_released_codes_reduction(factor):
    """Otherwise `released` would not be the released code's: there a cell counts from 0.5 on, and an edge that halves it does."""
    mask = np.zeros((3 * factor, 3 * factor), np.uint8)
    mask[:, factor + factor // 2 :] = 1
    assert latent_mask(mask, factor, "released")[0, 0].tolist() == [0, 1, 1]


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_max_keeps_every_single_pixel_defect(factor):
    """Otherwise a tiny defect would vanish before the network sees its mask: each of all pixels marks exactly its own cell."""
    for pixel in range(SIZE * SIZE):
        row, column = divmod(pixel, SIZE)
        mask = blank()
        mask[row, column] = 1
        cells = latent_mask(mask, factor, "max")
        assert cells.shape == (1, SIZE // factor, SIZE // factor)
        assert cells.sum() == 1
        assert cells[0, row // factor, column // factor] == 1


@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 3), (1, 20), (4, 4)])
def test_antialias_loses_spots_and_lines(height, width):
    """Otherwise our reason to leave the released code's reduction would be untrue."""
    mask = blank()
    mask[6 : 6 + height, 2 : 2 + width] = 1
    assert latent_mask(mask, 8, "released").sum() == 0
    assert latent_mask(mask, 8, "max").sum() > 0


@pytest.mark.parametrize("reduction", ["max", "released"])
def test_aligned_blocks_survive_both_reductions(reduction):
    """Otherwise large defects would be moved or grown by a reduction that should leave them alone."""
    mask = blank()
    mask[8:24, 0:16] = 1
    cells = latent_mask(mask, 4, reduction)
    assert cells.dtype == torch.float32
    assert torch.equal(cells[0, 2:, :4], torch.ones(4, 4))
    assert cells.sum() == 16


@given(st.integers(0, 2**32 - 1))
def test_paste_is_exact_on_both_sides_of_the_mask(seed):
    """Otherwise published pixels outside a mask would not be the photograph's, or labelled ones inside look normal."""
    rng = np.random.default_rng(seed)
    mask = (ndimage.gaussian_filter(rng.normal(size=(SIZE, SIZE)), rng.uniform(0.1, 3)) > 0.1).astype(np.uint8)
    synthetic, background = photographs(seed)
    pasted = paste_back(synthetic, background, mask)
    assert pasted.dtype == np.uint8
    assert np.array_equal(pasted[mask == 0], background[mask == 0])
    assert np.array_equal(pasted[mask == 1], synthetic[mask == 1])


def test_balance_by_hand():
    """Otherwise the loss would overlook small defects: a quarter of the image counts fourfold, one cell of 64 at most the limit."""
    masks = torch.zeros(3, 1, 8, 8)
    masks[0, 0, :4, :4] = 1
    masks[1, 0, 0, 0] = 1
    weights = area_balance(masks, 20.0)
    assert weights[0, 0, 0, 0] == 4
    assert weights[0, 0, 7, 7] == 1
    assert weights[1, 0, 0, 0] == 20
    assert torch.equal(weights[2], torch.ones(1, 8, 8))


def test_a_limit_of_one_weighs_nothing():
    """Otherwise the paper's setting would not be the paper's loss."""
    masks = (torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)) > 0.5).float()
    assert torch.equal(area_balance(masks, 1.0), torch.ones_like(masks))


def test_bounding_boxes_by_hand():
    """Otherwise windows and pastes would be beside the defect."""
    mask = blank()
    mask[3, 5] = mask[7, 2] = 1
    assert bounding_box(mask) == (slice(3, 8), slice(2, 6))
    assert bounding_box(np.ones_like(mask)) == (slice(0, SIZE), slice(0, SIZE))
    assert bounding_box(blank()) == (slice(0, 1), slice(0, 1))


def test_nothing_is_pasted_through_an_empty_mask():
    """Otherwise a mask that holds nothing would crash the run instead of being rejected with its reason."""
    synthetic, background = photographs()
    assert np.array_equal(paste_back(synthetic, background, blank()), background)
