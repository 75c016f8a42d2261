"""Windows: what the base is shown of a photograph, and that nothing but the mask's pixels comes back changed."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from stage.core.model_params import Crop
from stage.datasets.blending import paste
from stage.datasets.windows import Window, cut, random_window, shown_pixels, window

OFF = Crop(below=0, defect_share=0.25, smallest=16)
ON = Crop(below=16, defect_share=0.25, smallest=16)


def boxed(size: int, top: int, left: int, height: int, width: int) -> np.ndarray:
    """A mask (size, size) of one rectangle."""
    mask = np.zeros((size, size), np.uint8)
    mask[top : top + height, left : left + width] = 1
    return mask


@st.composite
def spotted(draw: st.DrawFn, largest: int = 60) -> np.ndarray:
    """A mask of one to five spots anywhere."""
    size = draw(st.integers(8, largest))
    mask = np.zeros((size, size), np.uint8)
    for _ in range(draw(st.integers(1, 5))):
        top, left = (draw(st.integers(0, size - 1)) for _ in range(2))
        mask[top : top + draw(st.integers(1, 5)), left : left + draw(st.integers(1, 5))] = 1
    return mask


crops = st.builds(Crop, below=st.integers(0, 40), defect_share=st.floats(0.05, 1), smallest=st.integers(1, 70))


@settings(deadline=None)
@given(spotted(), crops, st.integers(4, 64))
def test_a_window_holds_the_whole_mask_and_lies_in_the_image(mask: np.ndarray, crop: Crop, base_size: int) -> None:
    """Part of a defect would be labelled and never made, or the crash would come in the middle of a night's run."""
    top, left, side = window(mask, crop, base_size)

    assert top >= 0
    assert left >= 0
    assert side >= 1
    assert max(top, left) + side <= len(mask)
    assert mask[top : top + side, left : left + side].sum() == mask.sum()


@settings(deadline=None)
@given(spotted(), st.floats(0.05, 1))
def test_without_cropping_and_scaling_the_window_is_the_image(mask: np.ndarray, share: float) -> None:
    """The paper's setting would see other pixels than the paper's."""
    image = np.random.default_rng(0).integers(0, 256, (*mask.shape, 3)).astype(np.uint8)

    place = window(mask, Crop(below=0, defect_share=share, smallest=1), len(mask))

    assert place == (0, 0, len(mask))
    assert cut(image, place, len(mask)).tobytes() == image.tobytes()
    assert cut(mask, place, len(mask)).tobytes() == mask.tobytes()


@pytest.mark.parametrize(
    ("mask", "crop", "base_size", "expected"),
    [
        (boxed(64, 30, 40, 4, 2), ON, 64, (24, 33, 16)),  # 4 / 0.25 = 16 around the middle, 32 and 41
        (boxed(64, 30, 40, 2, 1), ON, 64, (23, 32, 16)),  # the smallest
        (boxed(64, 20, 30, 10, 15), ON, 64, (0, 4, 60)),  # 15 is still smaller than `below`: 60 px, middle 25 and 37
        (boxed(64, 20, 30, 10, 16), ON, 64, (0, 0, 64)),  # 16 is not
        (boxed(64, 0, 62, 2, 2), ON, 64, (0, 48, 16)),  # pushed back into the image
        (boxed(64, 10, 10, 4, 4), OFF, 64, (0, 0, 64)),
        (boxed(400, 100, 200, 10, 10), OFF, 64, (73, 173, 64)),  # a larger photograph: the base's size, pixel by pixel
        (boxed(400, 100, 200, 10, 40), OFF, 64, (25, 140, 160)),  # 40 / 0.25: reduced
        (boxed(400, 100, 200, 10, 140), OFF, 64, (0, 0, 400)),  # 560 is more than there is
        (boxed(400, 100, 200, 4, 4), ON, 64, (94, 194, 16)),
    ],
)
def test_windows_by_hand(mask: np.ndarray, crop: Crop, base_size: int, expected: tuple[int, int, int]) -> None:
    """`crop` in params.yaml would not mean what its comments say."""
    assert window(mask, crop, base_size) == expected


@settings(deadline=None)
@given(spotted(), crops, st.integers(4, 64))
def test_no_component_vanishes_in_a_window(mask: np.ndarray, crop: Crop, base_size: int) -> None:
    """A defect of the label would not be made, whether its window is enlarged or reduced."""
    place = window(mask, crop, base_size)
    seen = cut(mask, place, base_size)

    assert seen.shape == (base_size, base_size)
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    made = shown_pixels(mask, place, seen.astype(np.float32))
    assert set(labels[made]) == set(range(1, count + 1))
    assert place.side <= base_size or np.array_equal(made, mask == 1)


def test_a_scratch_in_a_reduced_window_keeps_its_length() -> None:
    """One cell of it would be made, and the sample accepted with a label of which nearly all is background."""
    mask = boxed(512, 250, 20, 3, 460)
    place = window(mask, Crop(below=0, defect_share=0.25, smallest=16), 64)
    seen = cut(mask, place, 64)

    assert place.side > 64
    assert shown_pixels(mask, place, seen.astype(np.float32)).sum() == 3 * 460


def test_enlarging_by_a_whole_factor_repeats_pixels() -> None:
    """The mask would be beside the defect: fourfold, each pixel becomes a square of sixteen."""
    mask = boxed(64, 30, 40, 4, 2)

    seen = cut(mask, Window(24, 33, 16), 64)

    assert np.array_equal(seen, np.kron(mask[24:40, 33:49], np.ones((4, 4), np.uint8)))


@settings(deadline=None)
@given(spotted(), crops, st.integers(4, 64))
def test_outside_the_mask_every_byte_stays(mask: np.ndarray, crop: Crop, base_size: int) -> None:
    """A segmenter would learn the traces of the resizing instead of the defect."""
    background = np.random.default_rng(1).integers(0, 200, (*mask.shape, 3)).astype(np.uint8)
    white = np.full((base_size, base_size, 3), 255, np.uint8)

    pasted = paste(white, background, mask, window(mask, crop, base_size))

    assert pasted.tobytes() != background.tobytes()
    assert np.array_equal(pasted[mask == 0], background[mask == 0])
    assert (pasted[mask == 1] == 255).all()


@pytest.mark.parametrize("side", [16, 40, 64, 100, 128])
def test_what_was_seen_returns_to_its_place(side: int) -> None:
    """A defect would land beside its mask: a smooth photograph, seen through a window and pasted back, is itself."""
    rows, columns = np.mgrid[:128, :128]
    image = np.stack([rows, columns, 255 - rows], axis=-1).astype(np.uint8)
    place = Window(min(20, 128 - side), min(7, 128 - side), side)
    mask = boxed(128, place.top + 3, place.left + 3, side - 6, side - 6)
    blank = np.zeros_like(image)

    pasted = paste(cut(image, place, 64), blank, mask, place)

    assert np.abs(pasted.astype(int) - image)[mask == 1].max() <= 1
    assert not pasted[mask == 0].any()


def test_an_enlarged_defect_returns_at_full_strength() -> None:
    """A 4 px defect would be mixed with its surroundings: made fourfold, each of its pixels is the mean of its own sixteen."""
    mask, place = boxed(64, 30, 40, 4, 4), Window(24, 34, 16)
    synthetic = np.random.default_rng(0).integers(0, 100, (64, 64, 3)).astype(np.uint8)
    synthetic[24:40, 24:40] = 255

    pasted = paste(synthetic, np.zeros((64, 64, 3), np.uint8), mask, place)

    assert (pasted[mask == 1] == 255).all()


def test_a_large_photograph_costs_its_window() -> None:
    """A 4000 px photograph would need its size many times over: a copy of it is made, and beside it the window's arrays."""
    background = np.zeros((4000, 4000, 3), np.uint8)
    mask = boxed(4000, 1000, 2000, 40, 30)
    place = window(mask, OFF, 256)

    tracemalloc.start()
    paste(np.full((256, 256, 3), 255, np.uint8), background, mask, place)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert place.side == 256
    assert peak < background.nbytes + 2_000_000


def test_held_pixels_by_hand() -> None:
    """A defect would be reported lost that is there, or the reverse: 8 px are two cells each way, the upper right one is marked."""
    mask = np.zeros((10, 10), np.uint8)
    mask[2, 1] = mask[2, 9] = mask[5, 5] = mask[6, 9] = 1  # rows 2 ... 5 and columns 6 ... 9 are the marked cell's
    cells = np.array([[0, 1], [0, 0]], np.float32)

    shown = shown_pixels(mask, Window(2, 2, 8), cells)

    assert list(zip(*np.nonzero(shown), strict=True)) == [(2, 9)]


def test_a_pixel_larger_than_a_cell_is_held_by_any_of_its_cells() -> None:
    """An enlarged spot would be reported lost: one pixel of two is two cells of four."""
    mask, cells = np.zeros((2, 2), np.uint8), np.zeros((4, 4), np.float32)
    mask[0, 1] = 1
    cells[1, 2] = 1

    assert shown_pixels(mask, Window(0, 0, 2), cells).sum() == 1
    assert shown_pixels(mask, Window(0, 0, 2), cells.T).sum() == 0


def test_random_windows_reach_every_place() -> None:
    """The border of the photographs would never be seen: of 3 px in 5 there are nine."""
    random = np.random.default_rng(0)

    assert {random_window(3, 5, random) for _ in range(200)} == {(top, left, 3) for top in range(3) for left in range(3)}
    assert random_window(5, 5, random) == (0, 0, 5)
