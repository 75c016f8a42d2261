"""A real defect in another photograph, which the sampler may begin with instead of noise."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_factory import CATEGORY, SIZE, Factory, build

from stage.datasets.blending import paste_change
from stage.datasets.table import read_catalog
from stage.datasets.windows import Window, cut
from stage.model.checkpoints import load_checkpoint
from stage.synthesis.method import METHODS
from stage.synthesis.methods.paste import MIRRORED, pasted, reach_of
from stage.synthesis.methods.stage import StageRenderer
from stage.synthesis.placement import file_mask, trimmed
from stage.synthesis.rows import Identity, PlanRow
from stage.synthesis.source import Source
from stage.synthesis.transplant import placed


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"))


def planned(factory: Factory, count: int, **changes: object) -> list[PlanRow]:
    """Rows of the method STAGE that begin with a defect."""
    recipe = factory.recipe(**{"start": "defect", "start_at": 200, **changes})
    plan = METHODS["stage"].planner(recipe, read_catalog(factory.catalog), factory.source())
    return [plan(Identity("stage", CATEGORY, "crack", ordinal, 0)) for ordinal in range(count)]


def begun(factory: Factory, row: PlanRow, source: Source) -> np.ndarray:
    """The picture that the sampler begins with."""
    return pasted(placed(row, source), source.backgrounds[row.background_sha256].image, row, factory.params.paste)


def seen(factory: Factory, rows: list[PlanRow]) -> Iterator[tuple[PlanRow, np.ndarray]]:
    """Each row with its mask moved as a photograph is."""
    source = factory.source()
    for row in rows:
        own = source.masks[row.mask].mask
        picture = np.repeat(own[..., None] * np.uint8(255), 3, axis=2)
        yield row, placed(row, source, picture).image[..., 0] >= 128


@pytest.mark.parametrize("placement", ["as_is", "on_object", "on_part"])
def test_a_photograph_moves_as_its_mask_does(factory: Factory, placement: str) -> None:
    """The sampler would begin with normal pixels under the label."""
    source, rows = factory.source(), planned(factory, 12, placement=placement)
    assert len({row.mask_digest for row in rows}) > 4

    for row, moved in seen(factory, rows):
        mask = file_mask(row, source)
        part = source.foregrounds[row.background_sha256]
        expected = mask if row.foreground == "none" else trimmed(moved.astype(np.uint8), part)
        assert (expected != mask).mean() < 0.01  # a turned edge is rounded in another way


def test_a_sample_is_one_of_paste_changed_inside_its_mask(factory: Factory) -> None:
    """Turned by right angles, a defect of a brushed surface lies across it; and without its seam it has an edge that no real one has."""
    rows, source = planned(factory, 8), factory.source()
    seams = 0

    renderer = factory.renderer(start="defect", start_at=200, known_region="posterior")
    for row in rows:
        made = renderer.render([row], source)[0]
        image, outside = begun(factory, row, source), made.pair.mask == 0
        assert np.array_equal(made.pair.image[outside], image[outside])
        assert not np.array_equal(made.pair.image, image)
        assert made.reach == reach_of(row, factory.params.paste)
        seams += not np.array_equal(image[outside], source.backgrounds[row.background_sha256].image[outside])
    assert 0 < seams < len(rows)
    assert {row.mask_turn for row in rows} == {0, MIRRORED}


def test_redrawn_surroundings_change_in_the_window_alone(factory: Factory) -> None:
    """Labelled pixels would be the only ones with the network's trace, or a photograph change where nobody said so."""
    rows, source = planned(factory, 4), factory.source()
    changes = {"start": "defect", "start_at": 200}
    redrawn, kept = (factory.renderer(known_region=known, **changes).render(rows, source) for known in ("redrawn", "posterior"))

    for row, made, other in zip(rows, redrawn, kept, strict=True):
        image, window = begun(factory, row, source), np.zeros(made.pair.mask.shape, bool)
        assert made.redrawn is not None
        assert other.redrawn is None
        window[made.redrawn.region] = True
        assert np.array_equal(made.pair.image[~window], image[~window])
        assert not np.array_equal(made.pair.image[window & (made.pair.mask == 0)], image[window & (made.pair.mask == 0)])
        assert np.array_equal(made.pair.mask, other.pair.mask)


def test_a_row_names_the_photograph_that_it_begins_with(factory: Factory) -> None:
    """A recall of that photograph would leave the sample in the data set."""
    catalog = read_catalog(factory.catalog).set_index("mask_path")

    for row in planned(factory, 6):
        assert row.source_sha256 == catalog.image_sha256[row.mask_path]
    assert {row.source_sha256 for row in planned(factory, 6, start="noise")} == {""}


def test_samples_begin_with_the_defect(factory: Factory) -> None:
    """The setting would be recorded, and noise be drawn all the same."""
    rows, source = planned(factory, 4), factory.source()
    by_start = {start: factory.renderer(start=start, start_at=200).render(rows, source) for start in ("noise", "defect")}

    assert factory.renderer(start="defect", start_at=200).moves[0].t == 199
    for noise, defect in zip(*by_start.values(), strict=True):
        assert not np.array_equal(noise.pair.image, defect.pair.image)
        assert np.array_equal(noise.pair.mask, defect.pair.mask)


def detail(image: np.ndarray) -> np.ndarray:
    """What is finer than the network's pixels."""
    return image - cv2.resize(cv2.resize(image.astype(np.float32), (SIZE, SIZE), interpolation=cv2.INTER_AREA), image.shape[1::-1])


def test_a_defect_larger_than_the_network_s_window_keeps_its_detail(tmp_path: Path) -> None:
    """It would be the network's few pixels, enlarged."""
    large = build(tmp_path, side=4 * SIZE)
    rows, source = planned(large, 4, placement="as_is"), large.source()
    crop = large.params.method.crop.model_copy(update={"defect_share": 0.01})  # the window is the photograph
    method = large.params.method.model_copy(update={"crop": crop})
    checkpoint = load_checkpoint(large.data / "pretrain" / "base", large.data / "train" / CATEGORY)
    params = large.recipe(start="defect", start_at=200).synthesize
    renderer = StageRenderer(
        checkpoint, method, params, large.params.base.prompts, pasting=large.params.paste, image_size=SIZE, device="cpu"
    )

    for row, made in zip(rows, renderer.render(rows, source), strict=False):
        image, inside = begun(large, row, source), made.pair.mask > 0
        kept = np.corrcoef(detail(made.pair.image)[inside].ravel(), detail(image)[inside].ravel())[0, 1]
        assert kept > 0.8
        assert not np.array_equal(made.pair.image[inside], image[inside])


@pytest.mark.parametrize("side", [32, 64, 96])
def test_the_change_of_a_window_fades_towards_the_photograph_but_not_in_the_mask(side: int) -> None:
    """A square would stand out in every sample, or the defect lose its change where its window ends."""
    whole, mask, place = np.full((128, 128, 3), 100, np.uint8), np.zeros((128, 128), np.uint8), Window(8, 0, side)
    mask[8:12, 12:14] = 1
    before = cut(whole, place, 64)

    changed = paste_change(before, before + np.uint8(40), whole, mask, place, in_window=True).astype(int)[..., 0] - 100

    outside = mask == 0
    assert (changed[mask > 0] == 40).all()
    assert (changed[:8] == 0).all()
    assert (changed[:, side:] == 0).all()
    assert changed[8 + side // 2, 0] == 40  # the photograph's own edge
    assert (np.diff(changed[8 + side // 2, side - side // 8 : side + 1]) < 0).all()
    assert 0 < changed[8, side // 2] <= 40 / (side // 8) + 1
    assert (changed[outside] <= 40).all()


def test_detail_finer_than_the_network_s_pixels_stays_the_defect_s() -> None:
    """Glass would become blocks wherever a defect is larger than what the network sees."""
    random = np.random.default_rng(0)
    whole = random.integers(60, 200, (128, 128, 3), dtype=np.uint8)
    mask = np.zeros((128, 128), np.uint8)
    mask[40:90, 20:100] = 1
    place = Window(0, 0, 128)
    before = cut(whole, place, 64)
    after = before + np.uint8(20)

    unchanged = paste_change(before, before, whole, mask, place)
    brighter = paste_change(before, after, whole, mask, place)

    assert np.array_equal(unchanged, whole)
    assert np.array_equal(brighter[mask > 0], whole[mask > 0] + 20)
    assert np.array_equal(brighter[mask == 0], whole[mask == 0])
