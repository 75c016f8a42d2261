"""From the catalog to training: every array under its own name, and no image of the evaluation among them."""

from pathlib import Path

import numpy as np
import pytest
from small_factory import CATEGORY, Factory, build

from stage.chaos.miniature import DEFECTS
from stage.core.model_params import Crop, Prompts
from stage.datasets.examples import column, defect_images, pairs_of
from stage.datasets.table import read_catalog
from stage.datasets.windows import Window, cut, window
from stage.model.examples import VIEWS, Examples, pretraining_examples, through_windows

TEMPLATES = Prompts(normal="a {category}", defect="{category} with {defect}", isolated="only {defect}")


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> Factory:
    return build(tmp_path_factory.mktemp("factory"))


@pytest.fixture(scope="module")
def folder(factory: Factory) -> Path:
    return factory.catalog.parent


@pytest.mark.parametrize(("split", "good", "expected"), [("train", True, 5), ("test", True, 2), ("train", False, 3), ("test", False, 6)])
def test_pairs_are_those_of_a_split_and_kind(folder: Path, split: str, good: bool, expected: int) -> None:
    """Test images would be trained on: of six cracks and three spots, two and one are the generator's."""
    pairs = pairs_of(folder, split, good=good)

    assert len(pairs) == expected
    assert set(column(pairs, "split")) == {split}
    assert {defect == "good" for defect in column(pairs, "defect")} == {good}
    assert all(pair.mask.any() != good for pair in pairs)


def test_nothing_is_in_both_splits(folder: Path) -> None:
    """Every number of the report would be too good."""
    sides = [
        {digest for good in (True, False) for digest in column(pairs_of(folder, split, good=good), "image_sha256")}
        for split in ("train", "test")
    ]

    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == len(read_catalog(folder / "catalog.parquet"))


def test_pretraining_sees_the_training_images_alone(folder: Path) -> None:
    """The base would have seen the evaluation's images."""
    examples = pretraining_examples([folder], TEMPLATES)

    trained = {pair.image.tobytes() for good in (True, False) for pair in pairs_of(folder, "train", good=good)}
    assert {image.tobytes() for image in examples.images} == trained
    assert len(examples.images) == len(examples.masks) == len(examples.prompts) == len(examples.isolated) == 8


def test_every_image_is_called_what_it_shows(folder: Path) -> None:
    """The base would learn the defects under each other's names."""
    examples = pretraining_examples([folder], TEMPLATES)

    for mask, text, isolated in zip(examples.masks, examples.prompts, examples.isolated, strict=True):
        # The defects were drawn with masks that end at column 14 for `crack` and 13 for `spot`.
        defect = {0: None, 14: "crack", 13: "spot"}[int(np.flatnonzero(mask.any(0))[-1] + 1) if mask.any() else 0]
        assert text == (f"{CATEGORY} with {defect}" if defect else f"a {CATEGORY}")
        assert isolated == (f"only {defect}" if defect else None)


def test_pretraining_takes_every_category(folder: Path) -> None:
    """A category would be trained on a base that has never seen it."""
    examples = pretraining_examples([folder, folder], TEMPLATES)

    assert len(examples.images) == 16
    assert examples.prompts[:8] == examples.prompts[8:]


def test_defect_images_are_the_generator_s_third(folder: Path) -> None:
    """The generator would be trained on what it is evaluated with, or a mask be bound to another image."""
    images = defect_images(folder, CATEGORY)

    assert {defect: images.defects.count(defect) for defect in images.types} == {name: count // 3 for name, count in DEFECTS.items()}
    for image, mask, defect in zip(images.images, images.masks, images.defects, strict=True):
        assert (image[mask == 1] == (255 if defect == "crack" else 0)).all()
        assert image[mask == 0].min() > 60
        assert image[mask == 0].max() < 180


def test_pictures_are_decoded_when_asked_for_and_stay_in_their_order(folder: Path) -> None:
    """A mask would be bound to another image, or a large data set be decoded whole into memory."""
    examples = pretraining_examples([folder], TEMPLATES)
    pairs = [pair for good in (True, False) for pair in pairs_of(folder, "train", good=good)]

    assert not isinstance(examples.images, np.ndarray)
    for row, pair in enumerate(pairs):
        assert np.array_equal(examples.images[row], pair.image)
        assert np.array_equal(examples.masks[row], pair.mask)
    assert np.array_equal(list(examples.images[2:4]), [pair.image for pair in pairs[2:4]])
    with pytest.raises(IndexError):
        examples.images[len(pairs)]


def test_every_prompt_is_listed_once(folder: Path) -> None:
    """A prompt would have two numbers, and a batch the wrong condition."""
    texts = pretraining_examples([folder, folder], TEMPLATES).texts

    assert texts == ["a part", "only crack", "only spot", "part with crack", "part with spot"]


def photographs(size: int) -> Examples:
    """Two normal images and two with a defect of 3 px, all of noise."""
    images = np.random.default_rng(0).integers(0, 256, (4, size, size, 3)).astype(np.uint8)
    masks = np.zeros((4, size, size), np.uint8)
    masks[1, 4:7, 4:6] = masks[2, size - 4 : size - 1, 8:10] = 1
    return Examples(images, masks, ["n", "c", "s", "n"], [None, "ic", "is", None])


@pytest.mark.parametrize(("size", "below", "side"), [(16, 4, 8), (40, 0, 16), (40, 4, 8)])
def test_through_windows_defects_are_as_they_will_be_made(size: int, below: int, side: int) -> None:
    """The base would learn defects at another scale than it is asked for, or normal images at another than defective ones."""
    crop, data = Crop(below=below, defect_share=0.5, smallest=8), photographs(size)
    seen = through_windows(data, crop, 16, np.random.default_rng(0))

    assert seen.prompts == ["n"] * VIEWS + ["c", "s"] + ["n"] * VIEWS
    assert seen.isolated == [None] * VIEWS + ["ic", "is"] + [None] * VIEWS
    for row, of in ((VIEWS, 1), (VIEWS + 1, 2)):
        place = window(data.masks[of], crop, 16)
        assert place.side == side
        assert np.array_equal(seen.images[row], cut(data.images[of], place, 16))
        assert np.array_equal(seen.masks[row], cut(data.masks[of], place, 16))
    everywhere = _squares(data.images[0], side)
    assert {image.tobytes() for image in seen.images[:VIEWS]} <= everywhere
    assert len({image.tobytes() for image in seen.images[:VIEWS]}) > 1


def _squares(image: np.ndarray, side: int) -> set[bytes]:
    places = ((top, left, side) for top in range(len(image) - side + 1) for left in range(len(image) - side + 1))
    return {cut(image, Window(*place), 16).tobytes() for place in places}


def test_through_whole_windows_everything_is_as_it_was() -> None:
    """A base that was published could not be made again."""
    data = photographs(16)
    seen = through_windows(data, Crop(below=3, defect_share=0.5, smallest=8), 16, np.random.default_rng(0))

    assert np.array_equal(seen.images, data.images)
    assert np.array_equal(seen.masks, data.masks)
    assert (seen.prompts, seen.isolated) == (data.prompts, data.isolated)
