"""A real defect in another photograph, which the sampler may begin with instead of noise."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_factory import CATEGORY, SIZE, Factory, build

from stage.core.params import Params
from stage.datasets.blending import paste_change
from stage.datasets.table import read_catalog
from stage.datasets.windows import Window, cut
from stage.model.checkpoints import load_checkpoint
from stage.synthesis.method import METHODS
from stage.synthesis.methods.stage import StageRenderer
from stage.synthesis.placement import file_mask, trimmed
from stage.synthesis.rows import Identity, PlanRow
from stage.synthesis.transplant import placed, transplanted


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"))


def planned(factory: Factory, count: int, **changes: object) -> list[PlanRow]:
    """Rows of the method STAGE that begin with a defect."""
    recipe = factory.recipe(**{"start": "defect", "start_at": 200, **changes})
    plan = METHODS["stage"].planner(recipe, read_catalog(factory.catalog), factory.source())
    return [plan(Identity("stage", CATEGORY, "crack", ordinal, 0)) for ordinal in range(count)]


def seen(factory: Factory, rows: list[PlanRow]) -> Iterator[tuple[PlanRow, np.ndarray]]:
    """Each row with its mask moved as a photograph is."""
    source = factory.source()
    for row in rows:
        own = source.masks[row.mask_sha256].mask
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


def test_the_background_is_kept_outside_the_mask(factory: Factory) -> None:
    """Pixels of another photograph would stand around the defect, without a label."""
    source = factory.source()
    for row in planned(factory, 4):
        background = source.backgrounds[row.background_sha256].image
        image, mask = transplanted(row, source, background), file_mask(row, source)
        assert np.array_equal(image[mask == 0], background[mask == 0])
        assert not np.array_equal(image[mask == 1], background[mask == 1])


def test_a_row_names_the_photograph_that_it_begins_with(factory: Factory) -> None:
    """A recall of that photograph would leave the sample in the data set."""
    catalog = read_catalog(factory.catalog).set_index("mask_sha256")

    for row in planned(factory, 6):
        assert row.source_sha256 == catalog.image_sha256[row.mask_sha256]
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
    renderer = StageRenderer(checkpoint, method, params, large.params.base.prompts, image_size=SIZE, device="cpu")

    for row, made in zip(rows, renderer.render(rows, source), strict=False):
        begun = transplanted(row, source, source.backgrounds[row.background_sha256].image)
        inside = made.pair.mask > 0
        kept = np.corrcoef(detail(made.pair.image)[inside].ravel(), detail(begun)[inside].ravel())[0, 1]
        assert kept > 0.8
        assert not np.array_equal(made.pair.image[inside], begun[inside])


def test_detail_finer_than_the_network_s_pixels_stays_the_defect_s() -> None:
    """Glass would become blocks wherever a defect is larger than what the network sees."""
    random = np.random.default_rng(0)
    begun, background = (random.integers(60, 200, (128, 128, 3), dtype=np.uint8) for _ in range(2))
    mask = np.zeros((128, 128), np.uint8)
    mask[40:90, 20:100] = 1
    place = Window(0, 0, 128)
    before = cut(begun, place, 64)
    after = before + np.uint8(20)

    unchanged = paste_change(before, before, begun, background, mask, place)
    brighter = paste_change(before, after, begun, background, mask, place)

    assert np.array_equal(unchanged[mask > 0], begun[mask > 0])
    assert np.array_equal(brighter[mask > 0], begun[mask > 0] + 20)
    assert np.array_equal(brighter[mask == 0], background[mask == 0])


def test_drawn_masks_have_no_defect_to_begin_with(factory: Factory) -> None:
    """The planner would look for the photograph of a mask that has none."""
    values = factory.params.model_dump()
    values["segment"]["arms"] = ()
    values["synthesize"] |= {"start": "defect", "mask_source": "crack"}

    with pytest.raises(ValueError, match=r"synthesize.mask_source is real or augmented, found crack"):
        Params.model_validate(values)
