"""Placement: masks lie on the object, whole where they fit, and the same ones whenever a row is read again."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from small_factory import plan_row

from stage.core.params import load_params
from stage.core.synthesis_params import Perlin
from stage.datasets.images import pixel_digest
from stage.datasets.pairs import Pair
from stage.synthesis.placement import Shift, is_on, moved, perlin_mask_on, places_on, row_mask, sample_mask, trimmed
from stage.synthesis.rows import PlanRow
from stage.synthesis.source import Source

PERLIN = load_params(Path(__file__).parents[1] / "params.yaml").synthesize.perlin
SIDE = 48
Mask = np.ndarray


def rectangle(top: int, left: int, height: int, width: int, side: int = SIDE) -> Mask:
    mask = np.zeros((side, side), np.uint8)
    mask[top : top + height, left : left + width] = 1
    return mask


def disc(share: float, side: int = SIDE) -> Mask:
    """Centred, and covering `share` of the image."""
    y, x = np.ogrid[:side, :side]
    middle = (side - 1) / 2
    return (np.hypot(y - middle, x - middle) <= side * np.sqrt(share / np.pi)).astype(np.uint8)


def place(mask: Mask, part: Mask, seed: int = 0) -> Shift:
    return Shift(0, 0) if is_on(mask, part) else places_on(mask, part).draw(mask, np.random.default_rng(seed))


def cropped(mask: Mask) -> Mask:
    return mask[np.ix_(mask.any(1), mask.any(0))]


def test_a_mask_on_the_object_stays() -> None:
    """Masks that a person drew in the right place would be thrown about."""
    assert place(rectangle(20, 20, 5, 6), disc(0.5)) == (0, 0)


def test_a_mask_half_on_the_object_stays() -> None:
    """A chip of a broken edge reaches beyond it: it would be moved into the middle of the part."""
    mask, part = rectangle(10, 10, 10, 20), rectangle(0, 0, 15, SIDE)  # its upper five rows

    assert place(mask, part) == (0, 0)
    assert is_on(mask, part)
    part[10, 10] = 0
    assert place(mask, part) != (0, 0)
    assert not is_on(mask, part)


@pytest.mark.parametrize("seed", range(20))
def test_a_mask_off_the_object_is_moved_wholly_onto_it(seed: int) -> None:
    """Defects would float in the air beside the part (the paper, IV-D)."""
    mask, part = rectangle(0, 1, 4, 7), disc(0.25)
    result = moved(mask, place(mask, part, seed))

    assert (result * part).sum() == result.sum() == mask.sum()
    assert np.array_equal(cropped(result), cropped(mask))


def test_every_place_that_fits_is_found_and_no_other() -> None:
    """Defects would always lie at the same place of the part. Checked against every shift, tried one by one."""
    mask = rectangle(0, 0, 3, 2, 12)
    mask[1, 1] = 0
    part = rectangle(4, 3, 5, 5, 12)
    part[6, 5] = 0
    fits = {(y, x) for y in range(12 - 3 + 1) for x in range(12 - 2 + 1) if (np.roll(mask, (y, x), (0, 1)) * part).sum() == mask.sum()}

    assert {tuple(place(mask, part, seed)) for seed in range(400)} == fits


def test_what_fits_nowhere_goes_where_most_of_it_fits_and_is_cut() -> None:
    """A mask larger than the part would stay beside it, or reach over its edge."""
    mask, part = rectangle(0, 0, 4, 20), rectangle(20, 30, 10, 12)
    result = trimmed(moved(mask, place(mask, part)), part)

    assert result.sum() == 4 * 12
    assert (result * part).sum() == result.sum()


def test_a_hole_is_not_the_object() -> None:
    """Scratches would be drawn across a washer's hole."""
    mask, part = rectangle(22, 22, 4, 4), disc(0.6) * (1 - disc(0.1))

    for seed in range(20):
        assert (moved(mask, place(mask, part, seed)) * part).sum() == 16


def test_no_part_of_a_mask_leaves_the_image() -> None:
    """A mask would come in again at the opposite side. The object reaches over the image's edge."""
    mask, part = rectangle(20, 20, 9, 9), rectangle(0, 0, 6, SIDE)

    for seed in range(20):
        result = moved(mask, place(mask, part, seed))
        assert np.array_equal(cropped(result), cropped(mask))
        assert trimmed(result, part).sum() == 6 * 9


def test_where_no_move_meets_the_object_the_mask_stays_whole() -> None:
    """A mask as large as the image, with a hole where the object is, would leave nothing to draw."""
    mask = 1 - rectangle(10, 10, 20, 20)
    part = rectangle(15, 15, 5, 5)

    assert place(mask, part) == (0, 0)
    assert np.array_equal(trimmed(mask, part), mask)


def test_large_images_are_searched_in_steps_and_still_fit() -> None:
    """Planning a 4000 px photograph would take minutes, or place masks off by the step."""
    part = disc(0.3, 1300)  # 1300 is no multiple of the step
    for seed in range(5):
        mask = rectangle(3, 1270, 30, 29, 1300)
        shift = place(mask, part, seed)
        assert (moved(mask, shift) * part).sum() == mask.sum()


def test_large_masks_that_fit_nowhere_stay_in_the_image() -> None:
    """The last, incomplete step of a large image would push a mask over its edge."""
    part = rectangle(1200, 0, 100, 1300, 1300)
    mask = rectangle(0, 5, 150, 101, 1300)
    result = moved(mask, place(mask, part))

    assert np.array_equal(cropped(result), cropped(mask))
    assert (result * part).sum() >= 0.9 * 100 * 101


@pytest.mark.parametrize(("share", "seed"), [(share, seed) for share in (0.5, 0.2, 0.05, 0.01) for seed in range(10)])
def test_noise_is_drawn_on_the_object_and_never_empty(share: float, seed: int) -> None:
    """A third of the masks of a small part would be empty, as the rivals' are."""
    part = disc(share)
    mask = perlin_mask_on(part, PERLIN, np.random.default_rng(seed))

    assert mask.any()
    assert (mask * part).sum() == mask.sum()


def test_noise_that_never_reaches_its_threshold_is_replaced_by_a_spot_on_the_object() -> None:
    """A plan would never end, or hold an empty mask."""
    never = Perlin(exponents=(0, 0), threshold=0.999, max_components=8)
    part = disc(0.3) * (1 - disc(0.1))
    spots = [perlin_mask_on(part, never, np.random.default_rng(seed)) for seed in range(10)]

    assert all((spot * part).sum() == spot.sum() > 0 for spot in spots)
    assert len({spot.tobytes() for spot in spots}) > 5


def row_and_source(**changes: object) -> tuple[PlanRow, Source]:
    """A row of an L-shaped mask of (4, 3) px on a disc, its area and digest filled in."""
    mask = rectangle(0, 0, 4, 3)
    mask[:3, 1:] = 0
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    row = plan_row(0, **{"mask_kind": "real", "mask_turn": 0, "mask_shift_y": 20, "mask_shift_x": 22} | changes)
    source = Source({row.background_sha256: Pair(image, mask * 0)}, {row.mask: Pair(image, mask)}, {}, {row.background_sha256: disc(0.3)})
    planned = row_mask(row, source, PERLIN)
    return row._replace(mask_area=int(planned.sum()), mask_digest=pixel_digest(planned)), source


def test_a_row_says_where_its_mask_lies() -> None:
    """Lineage would describe another mask than the sample's. An L, turned a quarter counter-clockwise, then moved."""
    row, source = row_and_source(mask_turn=1, mask_shift_y=-20, mask_shift_x=22)
    mask = sample_mask(row, source, PERLIN)

    # The L's upright lay at the top left; a quarter turn brings it to the bottom row, its foot at the right.
    assert cropped(mask).tolist() == [[0, 0, 0, 1], [0, 0, 0, 1], [1, 1, 1, 1]]
    assert np.argwhere(mask).min(0).tolist() == [SIDE - 3 - 20, 22]
    assert row.mask_area == mask.sum() == 6


def test_the_digest_is_of_shape_and_bytes() -> None:
    """Another program could not check a mask, or a turned strip would pass for itself."""
    strip = rectangle(0, 0, 2, 6, 6)[:2]

    assert pixel_digest(strip) == hashlib.sha256(b"2x6|" + bytes([1] * 12)).hexdigest()
    assert pixel_digest(strip) != pixel_digest(strip.T)


@pytest.mark.parametrize("foreground", ["none", "threshold"])
@pytest.mark.parametrize("kind", ["real", "augmented", "perlin"])
def test_a_row_gives_the_same_mask_again(kind: str, foreground: str) -> None:
    """A sample rendered after a restart would have another mask than planned."""
    row, source = row_and_source(mask_kind=kind, foreground=foreground, mask_seed=77)
    one, two = (sample_mask(row, source, PERLIN) for _ in range(2))

    assert np.array_equal(one, two)
    assert one.dtype == np.uint8
    assert one.shape == (SIDE, SIDE)


def test_a_mask_that_is_not_the_planned_one_is_refused() -> None:
    """A mask file or the noise's parameters would change under a plan, and lineage would be wrong without a word."""
    row, source = row_and_source(mask_kind="perlin", mask_seed=5)
    changed = PERLIN.model_copy(update={"threshold": 0.1})

    with pytest.raises(ValueError, match=r"Expected the planned mask .* of stage/part/crack/000000/0, found .* Run `dvc repro synthesize`"):
        sample_mask(row, source, changed)


def test_without_a_foreground_noise_covers_the_whole_image() -> None:
    """`as_is` would be placed after all."""
    rows = [row_and_source(mask_kind="perlin", foreground="none", mask_seed=seed) for seed in range(20)]
    masks = [sample_mask(row, source, PERLIN) for row, source in rows]

    assert any((mask * (1 - disc(0.3))).any() for mask in masks)


def test_a_mask_finds_wires_thinner_than_the_search_grid() -> None:
    """On a grid of wires in a large photograph every defect would stay in the air: the paper's own failing category."""
    part = np.zeros((2048, 2048), np.uint8)
    part[::40] = part[1::40] = part[2::40] = 1
    mask = np.zeros_like(part)
    mask[1010:1013, 700:703] = 1

    for seed in range(5):
        assert (moved(mask, place(mask, part, seed)) * part).sum() >= 3
