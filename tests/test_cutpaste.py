"""CutPaste: masks that are exactly what was pasted, of the published sizes, and little of it on its own place."""

import cv2
import numpy as np
import pytest

from stage.core.synthesis_params import CutPaste
from stage.synthesis.colour_jitter import brightness, contrast, grey, hue, jittered, saturation
from stage.synthesis.cuts import Cut, drawn_cut, drawn_shift, patch_size

PAPER = CutPaste(
    variant="union",
    area=(0.02, 0.15),
    aspect=(0.3, 3.3),
    scar_width=(2, 16),
    scar_length=(10, 25),
    rotation=45.0,
    jitter=0.1,
    overlap=0.25,
    on_object=0.0,
    visible=8.0,
)
WHOLE = np.ones((256, 256), np.uint8)


def test_patches_cover_what_was_measured() -> None:
    """8.4 % of the image on average, of 5,000 draws of the ports."""
    random = np.random.default_rng(0)
    sizes = np.array([patch_size((256, 256), PAPER, random) for _ in range(5000)])
    cover, aspect = sizes.prod(axis=1) / 256**2, sizes[:, 1] / sizes[:, 0]

    assert abs(cover.mean() - 0.084) < 0.005
    assert 0.018 < cover.min() < cover.max() <= 0.15
    assert abs((aspect < 1).mean() - 0.5) < 0.03


def test_scars_have_the_measured_area_and_none_is_clipped() -> None:
    """159 px on average; a port that ignores the rotation loses up to 88 % of a scar at the image's edge."""
    random, areas = np.random.default_rng(0), list[int]()
    for _ in range(2500):
        cut, _ = drawn_cut("scar", WHOLE, PAPER, random)
        areas.append(int(cut.shape.sum()))

        assert cut.mask(256, 256).sum() == areas[-1]
    assert abs(np.mean(areas) - 159) < 6


@pytest.mark.parametrize("variant", ["patch", "scar"])
def test_little_is_pasted_where_it_was_cut(variant: str) -> None:
    """One in ten would hardly differ from its photograph, and be labelled as defect."""
    random = np.random.default_rng(0)
    for _ in range(300):
        cut, _ = drawn_cut(variant, WHOLE, PAPER, random)
        source = np.zeros_like(WHOLE)
        source[cut.from_y : cut.from_y + cut.height, cut.from_x : cut.from_x + cut.width] = 1
        mask = cut.mask(256, 256)

        assert source.sum() == cut.height * cut.width
        assert (source & mask).sum() == pytest.approx(cut.overlap() * mask.sum())
        assert (source & mask).sum() <= 0.25 * mask.sum()


def test_a_patch_is_copied_byte_for_byte_wherever_it_goes() -> None:
    """Black pixels too: a mask of what is not black would lose them."""
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    image[10:20, 10:30] = 0
    cut = Cut(height=15, width=25, from_y=8, from_x=9, to_y=40, to_x=50)
    mask = cut.mask(60, 80)

    assert mask.sum() == 15 * 25
    assert np.array_equal(cut.piece(image)[mask[cut.box] > 0], image[8:23, 9:34].reshape(-1, 3))


@pytest.mark.parametrize("rotation", [-40.0, 10.0, 90.0])
def test_a_turned_scar_shows_only_what_was_cut(rotation: float) -> None:
    """Pixels from beside the cut, or of the border, would be part of the defect."""
    image = np.zeros((60, 60, 3), np.uint8)
    image[20:40, 30:36] = 200  # the cut is a 20 x 6 px bar of light
    cut = Cut(height=20, width=6, from_y=20, from_x=30, to_y=5, to_x=5, rotation=rotation)
    inside = cv2.erode(cut.mask(60, 60), np.ones((3, 3), np.uint8)) > 0

    assert abs(int(cut.mask(60, 60).sum()) - 120) <= 6
    assert (cut.piece(image)[inside[cut.box]] > 180).all()


@pytest.mark.parametrize("shape", [(256, 256), (90, 200), (16, 16)])
def test_at_least_half_lies_on_the_object_in_images_of_any_size(shape: tuple[int, int]) -> None:
    """Defects would be on the ground beside the part."""
    part = np.zeros(shape, np.uint8)
    part[: shape[0] // 2, : shape[1] // 2] = 1
    random = np.random.default_rng(0)
    for variant in ("patch", "scar"):
        cuts = [drawn_cut(variant, part, PAPER.model_copy(update={"on_object": 0.5}), random)[0].mask(*shape) for _ in range(50)]

        assert np.mean([(mask & part).sum() >= 0.5 * mask.sum() for mask in cuts]) > 0.95


def test_a_given_mask_is_filled_from_inside_the_image_and_from_elsewhere() -> None:
    """The mask's own pixels would be pasted into it, or those of the opposite edge."""
    mask = np.zeros((60, 60), np.uint8)
    mask[4:20, 30:58] = 1
    for seed in range(50):
        y, x = drawn_shift(mask, 0.25, np.random.default_rng(seed))
        rows, columns = np.nonzero(mask)

        assert 0 <= rows.min() + y <= rows.max() + y < 60
        assert 0 <= columns.min() + x <= columns.max() + x < 60
        assert (mask & np.roll(mask, (y, x), (0, 1))).sum() <= 0.25 * mask.sum()


def test_jitter_moves_each_of_four_properties_by_its_amount() -> None:
    """Colours would be those of another part, or not change at all."""
    picture = np.random.default_rng(0).integers(60, 200, (8, 8, 3), dtype=np.uint8)

    assert brightness(picture, 1.1).mean() == pytest.approx(1.1 * picture.mean(), rel=0.01)
    assert contrast(picture, 0.0).std() == 0
    assert np.array_equal(saturation(picture, 0.0), grey(picture))
    assert np.abs(hue(hue(picture, 0.25), -0.25).astype(int) - picture).max() <= 6
    assert np.array_equal(jittered(picture, 0.0, np.random.default_rng(0)), jittered(picture, 0.0, np.random.default_rng(1)))
    assert not np.array_equal(jittered(picture, 0.1, np.random.default_rng(0)), jittered(picture, 0.1, np.random.default_rng(1)))
