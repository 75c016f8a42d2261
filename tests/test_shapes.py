"""Masks of new shapes: drawn in the sizes of real ones, or made from these; the same row gives the same mask."""

import json
from pathlib import Path

import numpy as np
import pytest
from small_factory import Factory, build

from stage.datasets.components import components
from stage.datasets.images import pixel_digest
from stage.datasets.table import read_catalog
from stage.synthesis.fidelity import shape_of_mask
from stage.synthesis.masked import MaskedPlanner
from stage.synthesis.placement import sample_mask
from stage.synthesis.reshaping import resampled, warped
from stage.synthesis.rows import Identity, NamedMask, PlanRow, mixed_masks
from stage.synthesis.shapes import NEW
from stage.synthesis.strokes import DRAWN, crack, pit, scratch

SIDE = 64  # px
LONGEST = 230.0  # px
Mask = np.ndarray


def elongation(mask: Mask) -> float:
    return float(shape_of_mask(mask)[1])


def bar(height: int, width: int, angle: float = 0.0, side: int = 101) -> Mask:
    """A turned rectangle in the middle; `angle` in rad from the axis of the columns."""
    y, x = np.indices((side, side)) - side // 2
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return ((np.abs(along) <= width / 2) & (np.abs(across) <= height / 2)).astype(np.uint8)


def disc(radius: float, y: int = 50, x: int = 50, side: int = 101) -> Mask:
    rows, columns = np.ogrid[:side, :side]
    return (np.hypot(rows - y, columns - x) <= radius).astype(np.uint8)


@pytest.mark.parametrize("kind", DRAWN)
@pytest.mark.parametrize("area", [1, 5, 40, 700])
def test_a_drawn_shape_has_the_area_asked_for(kind: str, area: int) -> None:
    """Defects would be larger or smaller than any real one."""
    shapes = [DRAWN[kind](area, 1000.0, np.random.default_rng(seed)) for seed in range(5)]

    assert [shape.sum() for shape in shapes] == [area] * 5
    assert all(shape.any(axis).all() for shape in shapes for axis in (0, 1) if components(shape).max() == 1)


def test_lines_are_long_and_whole_and_pits_are_neither() -> None:
    """Cracks would come out as crumbs, scratches as blobs, or pits as lines."""
    made = {kind: [draw(400, LONGEST, np.random.default_rng(seed)) for seed in range(30)] for kind, draw in DRAWN.items()}
    parts = {kind: [components(shape).max() for shape in shapes] for kind, shapes in made.items()}

    assert set(parts["crack"]) == {1}
    assert {1, 2} <= set(parts["scratch"]) <= {1, 2, 3}
    assert {1, 2, 3} <= set(parts["pit"]) <= {1, 2, 3, 4}
    long = {kind: np.median([elongation(shape) for shape in shapes]) for kind, shapes in made.items()}
    assert long["scratch"] > 12 > 3 > long["pit"]
    assert long["crack"] > 3


def test_a_line_for_which_the_image_is_too_small_keeps_its_ratio() -> None:
    """A crack as large as a broken half of the part would be a blob."""
    shapes = [draw(10_000, 60.0, np.random.default_rng(seed)) for draw in (crack, scratch) for seed in range(10)]

    assert max(shape.sum() for shape in shapes) < 60 * 60 / 4
    assert max(max(shape.shape) for shape in shapes) < 2 * 60
    assert pit(10_000, 60.0, np.random.default_rng(0)).sum() == 10_000


def test_a_warped_mask_is_another_shape_of_the_same_size_in_as_many_parts() -> None:
    """The warp would tear masks, change their sizes, or change nothing."""
    mask = np.maximum(disc(4, 25, 30), bar(3, 60, 0.2))
    shapes = [warped(mask, np.random.default_rng(seed)) for seed in range(10)]

    assert all(0.6 * mask.sum() < shape.sum() < 1.5 * mask.sum() for shape in shapes)
    assert [components(shape).max() for shape in shapes].count(2) >= 8
    assert len({pixel_digest(shape) for shape in shapes}) == 10


def test_between_equal_shapes_lies_that_shape() -> None:
    """Where the masks lay in their photographs, how large they were or how they were turned would change what is resampled from them."""
    discs = [disc(10, 50, 50), disc(20, 30, 60), disc(5, 80, 20)]
    middle = resampled(discs, 1257, np.random.default_rng(0))
    bars = [bar(4, 60, 0.3), bar(8, 120, 1.5, 201), bar(3, 45, -1.0)]
    line = resampled(bars, 244, np.random.default_rng(1))
    hairs = [resampled([bar(1, 60, 0.4), bar(1, 40, 1.2)], 60, np.random.default_rng(seed)) for seed in range(5)]

    assert middle.shape == (41, 41)  # of radius 20, which has 1257 px
    assert (middle != disc(20, 20, 20, 41)).mean() < 0.02
    assert {components(hair).max() for hair in hairs} == {1}
    assert elongation(line) == pytest.approx(15, rel=0.15)
    assert np.hypot(*line.shape) == pytest.approx(60, abs=5)
    rows, columns = np.nonzero(line)
    assert np.polyfit(columns, rows, 1)[0] == pytest.approx(np.tan(0.3), abs=0.05)


def test_masks_of_any_size_are_reshaped() -> None:
    """A defect of one pixel, or one that fills the image, would end the plan."""
    one, whole = disc(0), np.ones((20, 30), np.uint8)

    for mask in (one, whole):
        assert 0.75 * mask.sum() <= warped(mask, np.random.default_rng(0)).sum() <= 2 * mask.sum()
        assert resampled([mask, disc(9)], 50, np.random.default_rng(0)).sum() == 50


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"), SIDE)


def rows_of(factory: Factory, kind: str, count: int = 12, *, keep: int | None = None) -> list[PlanRow]:
    """Rows of a type, of which only the first `keep` defects of the generator's third are there."""
    catalog = read_catalog(factory.catalog)
    if keep is not None:
        trained = catalog[(catalog.split == "train") & (catalog.defect == "crack")].index
        catalog = catalog.drop(trained[keep:])
    recipe = factory.recipe("quilt", mask_source=kind, placement="as_is")
    plan = MaskedPlanner.of(recipe, catalog, factory.source()).row
    return [plan(Identity("quilt", recipe.category, "crack", k, 0)) for k in range(count)]


@pytest.mark.parametrize("kind", NEW)
def test_a_row_gives_its_mask_again_within_the_sizes_of_its_type(factory: Factory, kind: str) -> None:
    """A sample could not be rendered, or its defect would be larger than any that was ever seen."""
    source, catalog = factory.source(), read_catalog(factory.catalog)
    trained = catalog[(catalog.split == "train") & (catalog.defect == "crack")]
    areas = [int(source.masks[NamedMask(*one)].mask.sum()) for one in zip(trained.mask_path, trained.mask_sha256, strict=True)]
    rows = rows_of(factory, kind)

    masks = [sample_mask(row, source, factory.params.synthesize.perlin) for row in rows]

    assert {row.mask_kind for row in rows} == {kind}
    assert all(mask.sum() == row.mask_area for mask, row in zip(masks, rows, strict=True))
    slack = 2 if kind == "warped" else 1  # a few pixels more or less
    assert all(0 < row.mask_area <= slack * max(areas) for row in rows)
    assert min(row.mask_area for row in rows) >= min(areas) / slack or kind in ("crack", "scratch")
    assert len({row.mask_digest for row in rows}) > 6


def test_a_row_names_every_mask_that_its_own_is_made_from(factory: Factory) -> None:
    """A recalled photograph would live on in the shapes of samples, or drawn ones would go with a photograph that they never saw."""
    catalog = read_catalog(factory.catalog)
    known = dict(zip(catalog.mask_path, catalog.mask_sha256, strict=True))
    trained = set(catalog[(catalog.split == "train") & (catalog.defect == "crack")].mask_path)
    for kind in NEW:
        for row in rows_of(factory, kind):
            named = [*([(row.mask_path, row.mask_sha256)] if row.mask_sha256 else []), *mixed_masks(row.choices)]

            assert all(path in trained and known[path] == digest for path, digest in named)
            assert len({path for path, _ in named}) == len(named) == {"warped": 1, "resampled": min(3, len(trained))}.get(kind, 0)


def test_with_one_real_mask_there_is_nothing_to_resample_from(factory: Factory) -> None:
    """A type with one defect could have no samples at all."""
    rows = rows_of(factory, "resampled", keep=1)

    assert {row.mask_kind for row in rows} == {"warped"}
    assert len({row.mask_sha256 for row in rows}) == 1
    assert all(not json.loads(row.choices or "{}").get("masks") for row in rows)


def test_the_page_names_every_kind() -> None:
    """A value could be set and nobody told what it does."""
    page = (Path(__file__).parents[1] / "docs/method.md").read_text()

    assert all(f"`{kind}`" in page for kind in NEW)
