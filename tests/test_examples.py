"""From the catalog to training: every array under its own name, and no image of the evaluation among them."""

from pathlib import Path

import numpy as np
import pytest
from small_factory import CATEGORY, DEFECTS, Factory, build

from stage.datasets.table import read_catalog
from stage.examples import by_digest, column, defect_images, pairs_of, pretraining_examples
from stage.params import Prompts

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


@pytest.mark.parametrize(("good", "name"), [(True, "image_sha256"), (False, "mask_sha256")])
def test_pairs_are_found_by_their_digest(folder: Path, good: bool, name: str) -> None:
    """A sample would be made from another photograph than its row says."""
    pairs = pairs_of(folder, "train", good=good)
    found = by_digest(pairs, name)

    assert list(found) == column(pairs, name)
    for pair, digest in zip(pairs, column(pairs, name), strict=True):
        assert np.array_equal(found[digest].image, pair.image)
        assert np.array_equal(found[digest].mask, pair.mask)
