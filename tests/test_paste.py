"""The method `paste`: real defects on other photographs, the same for any worker, labelled as they lie."""

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from small_factory import Factory, build

from stage.core.synthesis_params import Paste
from stage.datasets.blending import blended
from stage.datasets.components import dilated
from stage.datasets.pairs import Pair
from stage.datasets.table import read_catalog
from stage.synthesis.methods.paste import PasteRenderer, choices_of, planner
from stage.synthesis.quality import verdict_on
from stage.synthesis.recipe import Recipe, recipe_of
from stage.synthesis.rows import Identity, PlanRow
from stage.synthesis.transplant import colour_matched, placed

SIZE = 40


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"))


@pytest.fixture
def recipe(factory: Factory) -> Callable[..., Recipe]:
    """The recipe of `paste`, some of its section changed."""

    def make(**changes: object) -> Recipe:
        params = factory.params.model_copy(update={"paste": factory.params.paste.model_copy(update=changes)})
        return recipe_of("paste", params.categories[0], params, catalog=factory.catalog.parent, base=None, checkpoint=None)

    return make


def rows_of(factory: Factory, recipe: Recipe, count: int = 12) -> list[PlanRow]:
    catalog = read_catalog(factory.catalog)
    plan, defect = planner(recipe, catalog, factory.source()), defects(catalog)[0]
    return [plan(Identity("paste", recipe.category, defect, k, 0)) for k in range(count)]


def defects(catalog: pd.DataFrame) -> list[str]:
    return sorted({*catalog.loc[catalog.split == "train", "defect"]} - {"good"})


def test_a_row_is_the_same_whatever_was_planned_before(factory: Factory, recipe: Callable[..., Recipe]) -> None:
    """More samples, or another worker, would change those that are there."""
    rows = rows_of(factory, recipe())
    plan = planner(recipe(), read_catalog(factory.catalog), factory.source())

    assert plan(rows[-1].identity) == rows[-1]
    assert len({row.choices for row in rows}) == len(rows)


def test_only_the_generators_third_and_normal_training_images_are_used(factory: Factory, recipe: Callable[..., Recipe]) -> None:
    """The evaluation's defects would be pasted into the training."""
    catalog = read_catalog(factory.catalog).set_index("image_sha256")
    for row in rows_of(factory, recipe()):
        source, background = catalog.loc[row.source_sha256], catalog.loc[row.background_sha256]

        assert (source.split, source.defect, source.mask_sha256) == ("train", row.defect, row.mask_sha256)
        assert (background.split, background.defect) == ("train", "good")


def test_turn_scale_and_shift_stay_within_their_bounds(factory: Factory, recipe: Callable[..., Recipe]) -> None:
    """A defect would lie where none occurs."""
    for row in rows_of(factory, recipe(rotation=5.0, scale=(0.9, 1.1), shift=0.1, mirror=False)):
        choices, side = choices_of(row), len(factory.source().masks[row.mask].mask)

        assert abs(choices.rotation) <= 5
        assert 0.9 <= choices.scale <= 1.1
        assert max(abs(row.mask_shift_y), abs(row.mask_shift_x)) <= round(0.1 * side)


def test_an_unmoved_defect_keeps_its_mask_and_pixels(factory: Factory, recipe: Callable[..., Recipe]) -> None:
    """Labels would lie beside their defects."""
    (row,) = rows_of(factory, recipe(rotation=0.0, scale=(1.0, 1.0), shift=0.0, mirror=False, where="own"), 1)
    real, moved = factory.source().masks[row.mask], placed(row, factory.source())

    assert np.array_equal(moved.mask, real.mask)
    assert np.array_equal(moved.image[real.mask > 0], real.image[real.mask > 0])


@pytest.mark.parametrize("where", ["own", "type", "object"])
def test_no_defect_leaves_the_image(factory: Factory, recipe: Callable[..., Recipe], where: str) -> None:
    """A label would be empty, or cut off at the edge of the photograph."""
    for row in rows_of(factory, recipe(where=where, shift=0.5)):
        real, moved = factory.source().masks[row.mask], placed(row, factory.source())

        assert moved.mask.any()
        assert row.mask_area == moved.mask.sum()
        assert row.foreground != "none" or moved.mask.sum() > 0.5 * real.mask.sum()


@pytest.mark.parametrize("blend", ["hard", "outward", "poisson"])
def test_nothing_changes_farther_away_than_the_seam(blend: str) -> None:
    """The photograph would be another one where the label says that it is normal."""
    random = np.random.default_rng(1)
    defect, background = (random.integers(0, 255, (SIZE, SIZE, 3)).astype(np.uint8) for _ in range(2))
    mask = np.zeros((SIZE, SIZE), np.uint8)
    mask[0:9, 30:] = 1
    reach = 0 if blend == "hard" else 2
    image = blended(defect, background, mask, blend=blend, reach=2)

    assert np.array_equal(image[dilated(mask, reach) == 0], background[dilated(mask, reach) == 0])
    assert blend == "poisson" or np.array_equal(image[mask > 0], defect[mask > 0])


def test_the_seam_fades_outward_in_equal_steps() -> None:
    """An inward seam labels normal pixels as defect, and cost 5 points of IoU."""
    defect, background = np.full((9, 9, 3), 90, np.uint8), np.zeros((9, 9, 3), np.uint8)
    mask = np.zeros((9, 9), np.uint8)
    mask[:, :4] = 1

    assert blended(defect, background, mask, blend="outward", reach=2)[4, :, 0].tolist() == [90, 90, 90, 90, 60, 30, 0, 0, 0]


@pytest.mark.parametrize("blend", ["outward", "poisson"])
@pytest.mark.parametrize("side", [1, 3, 12])
def test_a_blended_defect_keeps_its_contrast_and_leaves_no_step(blend: str, side: int) -> None:
    """A pinhole or a scratch would vanish in its own seam, and its label stay."""
    photograph, background = np.full((32, 32, 3), 100, np.uint8), np.full((32, 32, 3), 120, np.uint8)
    mask = np.zeros((32, 32), np.uint8)
    mask[9 : 9 + side, 9 : 9 + side] = 1
    photograph[mask > 0] = 40
    image = blended(photograph, background, mask, blend=blend, reach=2).astype(int)

    assert (120 - image[mask > 0]).min() >= 60
    seam = (dilated(mask, 2) > 0) & (mask == 0)
    if blend == "poisson":  # all of the difference of 20 is made up for
        assert np.abs(image[seam] - 120).max() <= 1


def test_the_colour_moves_by_what_differs_just_outside() -> None:
    """A brighter photograph would leave a dark patch that anyone sees."""
    photograph, background = np.full((9, 9, 3), 100, np.uint8), np.full((9, 9, 3), 120, np.uint8)
    mask = np.zeros((9, 9), np.uint8)
    mask[3:6, 3:6] = 1
    photograph[mask > 0] = 40

    assert (colour_matched(Pair(photograph, mask), background, 2)[mask > 0] == 60).all()


def test_samples_are_the_same_alone_and_together(factory: Factory, recipe: Callable[..., Recipe]) -> None:
    """A sample would depend on its batch."""
    rows, source = rows_of(factory, recipe(), 4), factory.source()
    renderer = PasteRenderer(recipe().paste)
    together = renderer.render(rows, source)

    for row, sample in zip(rows, together, strict=True):
        assert np.array_equal(renderer.render([row], source)[0].pair.image, sample.pair.image)


def test_pasted_defects_pass_the_verdict_and_their_seams_are_no_fault(factory: Factory, recipe: Callable[..., Recipe]) -> None:
    """Soft seams would be rejected as a changed background."""
    source = factory.source()
    rows = rows_of(factory, recipe())
    samples = PasteRenderer(recipe().paste).render(rows, source)
    verdicts = [
        verdict_on(one, source.backgrounds[row.background_sha256].image, row.defect, None) for row, one in zip(rows, samples, strict=True)
    ]

    assert {json.loads(row.choices)["blend"] for row in rows} == set(recipe().paste.blends)
    assert {verdict.outside for verdict in verdicts} == {0}


def test_the_section_refuses_a_scale_that_falls() -> None:
    """A night would run with a scale that nobody meant."""
    values = {"mirror": True, "rotation": 1.0, "scale": (1.1, 0.9), "shift": 0.0, "where": "own", "blends": ("hard",)}
    with pytest.raises(ValueError, match="low, high"):
        Paste.model_validate({**values, "reach": 1, "ring": 1})
