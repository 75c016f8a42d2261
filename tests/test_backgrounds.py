"""The background of a sample: by likeness to the photograph of its mask for every method, or any, as the paper draws it."""

import numpy as np
import pytest
from small_factory import Factory, build

from stage.datasets.likeness import Likeness
from stage.datasets.table import read_catalog
from stage.datasets.windows import turn
from stage.synthesis.method import METHODS
from stage.synthesis.plan import backgrounds_of
from stage.synthesis.rows import Identity, PlanRow


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"))


def rows_of(factory: Factory, method: str, **changes: object) -> list[PlanRow]:
    recipe = factory.recipe(method, **changes)
    plan = METHODS[method].planner(recipe, read_catalog(factory.catalog), factory.source())
    return [plan(Identity(method, recipe.category, "crack", k, 0)) for k in range(40)]


@pytest.mark.parametrize("method", ["stage", "paste"])
def test_the_nearest_is_like_the_photograph_as_it_is_turned(factory: Factory, method: str) -> None:
    """A background that does not fit teaches a segmenter to look for misfits: 32 points of AP on a structured part."""
    source, normals = factory.source(), backgrounds_of(read_catalog(factory.catalog))
    likeness = Likeness(source.backgrounds[one.image_sha256].image for one in normals)
    for row in rows_of(factory, method, background="nearest", neighbours=1):
        image, mask = source.masks[row.mask]
        distances = likeness.distances(turn(image, row.mask_turn), turn(mask, row.mask_turn))

        assert row.background_sha256 == normals[int(distances.argmin())].image_sha256


@pytest.mark.parametrize("method", ["stage", "paste"])
def test_each_of_the_nearest_is_used_about_equally_often(factory: Factory, method: str) -> None:
    """A segmenter would learn a few photographs by heart."""
    rows = [row for row in rows_of(factory, method, background="nearest", neighbours=3, mask_source="real") if row.mask_turn == 0]
    for mask in {row.mask_sha256 for row in rows}:
        used = [row.background_sha256 for row in rows if row.mask_sha256 == mask]

        assert len(set(used)) == 3
        assert np.bincount(np.unique(used, return_inverse=True)[1]).max() < 0.7 * len(used)


@pytest.mark.parametrize("method", ["stage", "paste"])
def test_random_draws_from_all(factory: Factory, method: str) -> None:
    """The paper's protocol could not be followed."""
    used = {row.background_sha256 for row in rows_of(factory, method, background="random", neighbours=1)}

    assert len(used) == len(backgrounds_of(read_catalog(factory.catalog)))


def test_noise_gets_the_backgrounds_that_real_masks_get(factory: Factory) -> None:
    """The comparison of the mask sources would compare backgrounds too."""
    real, noise = (rows_of(factory, "stage", background="nearest", mask_source=source) for source in ("real", "perlin"))

    assert [row.background_sha256 for row in real] == [row.background_sha256 for row in noise]
