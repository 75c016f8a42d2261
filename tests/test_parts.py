"""Placement by pose: a mask lies where on the part it lay, turned with it, and no more of it off the part than before."""

import json
import math

import cv2
import numpy as np
import pytest
from small_factory import Factory, build, plan_row

from stage.core.synthesis_params import Synthesize
from stage.datasets.pairs import Pair
from stage.datasets.pose import pose_of
from stage.datasets.table import read_catalog
from stage.datasets.windows import turn
from stage.synthesis.method import METHODS
from stage.synthesis.methods.paste import choices_of
from stage.synthesis.motion import motion, moved_by
from stage.synthesis.parts import Carry, Parts
from stage.synthesis.placement import file_mask, row_mask, sample_mask, trimmed
from stage.synthesis.placer import Placer
from stage.synthesis.rows import Identity, NamedMask, PlanRow
from stage.synthesis.source import Source

SIDE = 96
DEFECT = NamedMask("part/ground_truth/crack/000_mask.png", "a" * 64)  # as `plan_row` names it
Pixels = np.ndarray


def drawn(polygon: list[tuple[float, float]], angle: float, centre: tuple[float, float] = (48, 48)) -> Pixels:
    """A polygon of places (x, y) about the middle, turned by `angle` degrees from x to y and moved to `centre` (x, y)."""
    radians = math.radians(angle)
    rotation = np.array([[math.cos(radians), -math.sin(radians)], [math.sin(radians), math.cos(radians)]])
    places = np.asarray(polygon) @ rotation.T + centre
    mask = np.zeros((SIDE, SIDE), np.uint8)
    cv2.fillPoly(mask, [np.rint(16 * places).astype(np.int32)], 1, shift=4)
    return mask


def box(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


BOLT = [*box(-30, -10, -20, 10)[:2], (-20, -5), (30, -5), (30, 5), (-20, 5), *box(-30, -10, -20, 10)[2:]]  # a head on the left
SPOT = box(18, -4, 26, -1)  # near the tip, on the upper flank


def photograph(part: Pixels, mask: Pixels | None = None) -> Pair:
    image = np.repeat(np.where(part, 60, 200).astype(np.uint8)[..., None], 3, axis=2)
    return Pair(image, np.zeros_like(part) if mask is None else mask)


def source_of(parts: tuple[Pixels, Pixels], mask: Pixels) -> Source:
    """A defective photograph of the first part, and a normal one of the second."""
    here, there = parts
    return Source({"b" * 64: photograph(there)}, {DEFECT: photograph(here, mask)}, {}, {DEFECT: here, "b" * 64: there})


def carried(source: Source, turned: int = 0) -> Carry:
    carry = Parts(source).carried(DEFECT, turned, "b" * 64)
    assert carry is not None
    return carry


def placed_row(source: Source, params: Synthesize, turned: int = 0) -> PlanRow:
    row = plan_row(0, mask_kind="real", mask_turn=turned, mask_shift_y=0, mask_shift_x=0)
    return Placer(source, params.model_copy(update={"placement": "on_part"})).placed(row, "threshold")


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"))


@pytest.fixture
def params(factory: Factory) -> Synthesize:
    return factory.params.synthesize


@pytest.mark.parametrize("angle", range(-180, 180, 30))
def test_the_pose_of_a_bar_with_a_head(angle: int) -> None:
    """Defects of the tip would be drawn on the head, or beside the part. The tip is the longer tail from the centroid."""
    pose = pose_of(drawn(BOLT, angle))
    assert pose is not None
    assert pose.direction is not None
    centroid = (10 * 20 * -25 + 50 * 10 * 5) / 700  # of head and shaft

    assert math.remainder(pose.direction - math.radians(angle), 2 * math.pi) == pytest.approx(0, abs=0.03)
    assert pose.x == pytest.approx(48 + centroid * math.cos(math.radians(angle)), abs=0.8)  # the edges are drawn too
    assert pose.y == pytest.approx(48 + centroid * math.sin(math.radians(angle)), abs=0.8)


def test_the_size_of_a_bar_is_its_length_by_the_root_of_twelve() -> None:
    """Parts of one size would count as of two, and defects be shrunk. The standard deviation of an even distribution."""
    pose = pose_of(drawn(box(-30, -5, 30, 5), 0))

    assert pose is not None
    assert pose.size == pytest.approx(61 / math.sqrt(12), rel=0.02)  # the last pixel is drawn too


@pytest.mark.parametrize("part", [box(-20, -20, 20, 20), [(20 * math.cos(k), 20 * math.sin(k)) for k in np.arange(0, 6.28, 0.1)]])
def test_a_square_and_a_disc_have_no_direction(part: list[tuple[float, float]]) -> None:
    """Bottles seen from above would be turned by whatever noise there is in their outlines."""
    pose = pose_of(drawn(part, 10))

    assert pose is not None
    assert pose.direction is None


@pytest.mark.parametrize("part", [np.ones((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), np.uint8)])
def test_the_whole_image_and_nothing_have_no_pose(part: Pixels) -> None:
    """On cloth, masks would be moved by half a pixel for nothing."""
    assert pose_of(part) is None


@pytest.mark.parametrize("turned", range(8))
@pytest.mark.parametrize("angle", [0, 25, 90, 170, 250])
def test_a_mask_lies_where_on_the_part_it_lay(params: Synthesize, angle: int, turned: int) -> None:
    """Scratches of the tip would lie on the head, or in the air. Drawn at the other angle, and mirrored across the axis where the mask is."""
    source = source_of((drawn(BOLT, 200), drawn(BOLT, angle, (52, 45))), drawn(SPOT, 200))
    mask = row_mask(placed_row(source, params, turned), source, params.perlin)
    expected = drawn([(x, -y) for x, y in SPOT] if turned >= 4 else SPOT, angle, (52, 45))

    assert (mask & expected).sum() / (mask | expected).sum() > 0.6  # 8 x 3 px, of which a pixel's offset takes a third
    assert np.abs(np.argwhere(mask).mean(0) - np.argwhere(expected).mean(0)).max() < 1


def test_a_symmetrical_part_is_laid_as_the_photographs_are_alike() -> None:
    """A capsule's print would come at its blank end. The outline says nothing: one end is brighter."""
    here, there = drawn(box(-30, -6, 30, 6), 20), drawn(box(-30, -6, 30, 6), 130)
    source = source_of((here, there), drawn(box(20, -3, 26, 3), 20))
    for pair, angle in ((source.masks[DEFECT], 20), (source.backgrounds["b" * 64], 130)):
        pair.image[drawn(box(0, -6, 30, 6), angle) > 0] = 140
    carry = carried(source)

    expected = 48 + 23 * np.array([math.sin(math.radians(130)), math.cos(math.radians(130))])
    assert np.abs(carry.centre - expected).max() < 1.5


def test_a_round_part_keeps_the_defects_direction() -> None:
    """A scratch on a bottle's rim would be turned at random, against the light."""
    disc = [(20 * math.cos(k), 20 * math.sin(k)) for k in np.arange(0, 6.28, 0.1)]
    carry = carried(source_of((drawn(disc, 0), drawn(disc, 0, (55, 40))), drawn(box(5, 5, 12, 8), 0)))

    assert carry.turned == (0, pytest.approx(1, abs=0.01))
    assert carry.centre == pytest.approx([40 + 6.5, 55 + 8.5], abs=1)
    assert carry.axis is None


def test_parts_of_unlike_size_are_not_laid_on_each_other() -> None:
    """Where half of a part was not found, its middle is another: defects would be moved off it."""
    half = drawn(box(-30, -5, 0, 5), 0)

    assert Parts(source_of((drawn(BOLT, 0), half), drawn(SPOT, 0))).carried(DEFECT, 0, "b" * 64) is None


def test_without_a_known_part_masks_are_placed_as_on_the_object(params: Synthesize) -> None:
    """With foregrounds drawn by hand, which defective photographs have not, no sample could be made."""
    source = source_of((drawn(BOLT, 0), drawn(BOLT, 90)), drawn(box(20, 20, 28, 24), 0))
    source = source._replace(foregrounds={"b" * 64: source.foregrounds["b" * 64]})
    row = placed_row(source, params)
    on_object = Placer(source, params.model_copy(update={"placement": "on_object"})).placed(
        row._replace(mask_shift_y=0, mask_shift_x=0), "threshold"
    )

    assert row == on_object
    assert row.choices == ""
    assert (sample_mask(row, source, params.perlin) * source.foregrounds["b" * 64]).sum() == row.mask_area


@pytest.mark.parametrize(("beyond", "left"), [(0.0, 8), (0.2, 10), (0.5, 16), (0.9, 20), (1.0, 20)])
def test_what_lies_off_the_part_is_cut_from_the_far_end(beyond: float, left: int) -> None:
    """Labels would float in the air, or a chip lose what reaches beyond the edge. A strip of 20 px, 8 of them on the part."""
    part, strip = np.zeros((4, 30), np.uint8), np.zeros((4, 30), np.uint8)
    part[:, :10], strip[1, 2:22] = 1, 1
    result = trimmed(strip, part, beyond)

    assert np.flatnonzero(result.any(0)).tolist() == list(range(2, 2 + left))


def test_no_mask_lies_farther_off_the_part_than_its_own(factory: Factory) -> None:
    """The paper's own limitation (IV-D). Every method, on parts at any angle."""
    catalog, random = read_catalog(factory.catalog), np.random.default_rng(3)
    side = len(next(iter(factory.source().masks.values())).mask)
    bar = [(x * side / SIDE, y * side / SIDE) for x, y in box(-40, -14, 40, 14)]
    middle = (side / 2, side / 2)
    source = factory.source()
    parts = {sha256: drawn(bar, float(random.uniform(0, 360)), middle)[:side, :side] for sha256 in (*source.backgrounds, *source.masks)}
    source = source._replace(foregrounds=parts)
    strategy = catalog.foreground_strategy.where(catalog.foreground_strategy.isna(), "threshold")
    for method in ("paste", "stage"):
        recipe = factory.recipe(method, placement="on_part")
        plan = METHODS[method].planner(recipe, catalog.assign(foreground_strategy=strategy), source)
        for number in range(20):
            row = plan(Identity(method, recipe.category, "crack", number, 0))
            own, mask = source.masks[row.mask].mask, file_mask(row, source)
            shares = [(one * parts[of]).sum() / one.sum() for one, of in ((mask, row.background_sha256), (own, row.mask))]

            assert shares[0] >= shares[1] - 1e-3 or not (mask * parts[row.background_sha256]).any()
            assert np.array_equal(file_mask(row, source), mask)
            assert json.loads(row.choices)["beyond"] == pytest.approx(1 - shares[1], abs=1e-4)
            assert row.mask_area == mask.sum()


def test_along_an_axis_a_pasted_defect_keeps_its_direction(factory: Factory) -> None:
    """A long scratch on a screw's flank would be turned off it."""
    catalog, source = read_catalog(factory.catalog), factory.source()
    side = len(next(iter(source.masks.values())).mask)
    bar = drawn([(x * side / SIDE, y * side / SIDE) for x, y in BOLT], 0, (side / 2, side / 2))[:side, :side]
    source = source._replace(foregrounds=dict.fromkeys((*source.backgrounds, *source.masks), bar))
    plan = METHODS["paste"].planner(factory.recipe("paste", placement="on_part"), catalog, source)
    rows = [plan(Identity("paste", "part", "crack", number, 0)) for number in range(20)]
    plain = [row for row in rows if not row.mask_turn]

    assert {choices_of(row).rotation % 360 for row in plain} == {0.0}
    assert {row.mask_shift_y for row in plain} == {0}
    assert len({row.mask_shift_x for row in plain}) > 1 or factory.params.paste.shift * side < 1


def test_a_turn_of_the_photograph_turns_its_pose() -> None:
    """Turned masks would be carried by the pose of the photograph as it was."""
    part = drawn(BOLT, 20)
    plain, turned = pose_of(part), pose_of(turn(part, 1))
    assert plain is not None
    assert turned is not None
    assert plain.direction is not None
    assert turned.direction is not None

    assert math.remainder(turned.direction - plain.direction + math.pi / 2, 2 * math.pi) == pytest.approx(0, abs=1e-6)


def test_a_mask_whose_pixels_leave_the_image_is_empty_and_not_the_whole_image() -> None:
    """A photograph would be labelled as defect from edge to edge."""
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[2:8, 2:8] = mask[-8:-2, -8:-2] = 1
    matrix = np.float64([[1, 0, 2 * SIDE], [0, 1, 0]])

    assert not moved_by(mask, matrix).any()


def test_a_turned_scratch_goes_where_it_fits() -> None:
    """The corners of its box, which hold no defect, would keep it from the edge that the real one lies at."""
    row = plan_row(0, mask_kind="real", choices=json.dumps({"rotation": 45.0, "scale": 1.0}), mask_shift_y=-30, mask_shift_x=0)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for place in range(20, 76):
        mask[place, place : place + 2] = 1
    found = moved_by(mask, motion(row, mask))

    assert abs(np.argwhere(found)[:, 0].mean() - (np.argwhere(mask)[:, 0].mean() - 30)) < 2


def test_a_mask_that_would_miss_the_part_goes_elsewhere_on_it(params: Synthesize) -> None:
    """A defect would lie beside its part, where no defect is."""
    here, ring = drawn(box(-30, -12, 30, 12), 0), drawn(box(-30, -12, 30, 12), 0)
    mask = drawn(box(-3, -3, 3, 3), 0)
    ring[drawn(box(-8, -8, 8, 8), 0) > 0] = 0  # where the defect was, this part has a hole
    source = source_of((here, ring), mask)
    row = placed_row(source, params)

    assert (row_mask(row, source, params.perlin) * ring).any()
    assert "beyond" not in row.choices
