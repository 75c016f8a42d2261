"""What a mask file means, whichever tool wrote it: decided by the rules of docs/robustness.md, noted, or refused."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stage.core.errors import DataError
from stage.datasets.images import Raster
from stage.datasets.masks import read_mask

DEFECT = np.zeros((12, 16), np.uint8)
DEFECT[3:6, 4:9] = 1
RING = np.zeros_like(DEFECT)
RING[2:7, 3:10] = 1
RING -= DEFECT
VOC = {1: (128, 0, 0), 2: (0, 128, 0), 255: (224, 224, 192)}


def read(path: Path, picture: Image.Image | np.ndarray, **options: object) -> Raster:
    (picture if isinstance(picture, Image.Image) else Image.fromarray(picture)).save(path, **options)
    return read_mask(path, max_megapixels=1, threshold=128)


def palette(index: np.ndarray, colours: dict[int, tuple[int, int, int]]) -> Image.Image:
    picture = Image.frombytes("P", index.shape[::-1], index.astype(np.uint8).tobytes())
    picture.putpalette([value for number in range(256) for value in colours.get(number, (0, 0, 0))])
    return picture


def painted(colours: list[tuple[np.ndarray, tuple[int, int, int]]], ground: tuple[int, int, int] = (0, 0, 0)) -> np.ndarray:
    rgb = np.full((*DEFECT.shape, 3), ground, np.uint8)
    for where, colour in colours:
        rgb[where > 0] = colour
    return rgb


def test_the_border_of_a_voc_palette_is_no_defect(tmp_path: Path) -> None:
    """The bright rim around each defect would be the defect, and the defect normal."""
    raster = read(tmp_path / "a.png", palette(DEFECT + 255 * RING, VOC))

    assert np.array_equal(raster.pixels, DEFECT)
    assert raster.notes == ("a palette mask of labels 1: every one but 0 is defect", "20 pixels of label 255, ignore, are normal")


def test_a_palette_of_0_and_255_alone_marks_255(tmp_path: Path) -> None:
    """A binary mask with VOC's palette would be empty."""
    assert np.array_equal(read(tmp_path / "a.png", palette(255 * DEFECT, VOC)).pixels, DEFECT)


def test_black_is_normal_wherever_the_palette_has_it(tmp_path: Path) -> None:
    """A mask whose colours were counted anew would be inverted: its index 0 is the red of the defect."""
    raster = read(tmp_path / "a.png", palette(1 - DEFECT, {0: (255, 0, 0), 1: (0, 0, 0)}))

    assert np.array_equal(raster.pixels, DEFECT)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
@pytest.mark.parametrize("labels", [(1, 2), (1, 2, 3), (3, 7), (5,), (31,)])
def test_numbered_classes_are_all_defects(tmp_path: Path, labels: tuple[int, ...], suffix: str) -> None:
    """A mask that looks black to the eye, and marks three classes of defects, would be said to mark none."""
    mask = DEFECT * labels[0]
    for row, label in enumerate(labels):
        mask[8 + row, 2:6] = label
    raster = read(tmp_path / f"a.{suffix}", mask)

    assert np.array_equal(raster.pixels, mask > 0)
    assert f"labels {', '.join(map(str, labels))}" in raster.notes[0]


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        (DEFECT + 255 * RING, r"whether 255 is the defect .* \(labels 0, 1, 255\)"),
        (DEFECT + 1, r"no 0: .* \(labels 1, 2\)"),
        (painted([(DEFECT, (255, 0, 0))], (255, 255, 255)), r"none of them black: .* \(2 colours\)"),
        (np.random.default_rng(0).integers(100, 140, (12, 16)).astype(np.uint8), "a photograph and no mask"),
        (np.random.default_rng(0).integers(100, 140, (12, 16, 3)).astype(np.uint8), "a photograph and no mask"),
    ],
)
def test_a_mask_with_two_meanings_is_refused(tmp_path: Path, mask: np.ndarray, reason: str) -> None:
    """Half of the data would be trained on inverted, and no number would tell."""
    with pytest.raises(DataError, match=reason):
        read(tmp_path / "a.png", mask)


@pytest.mark.parametrize("suffix", ["png", "tif", "gif", "webp"])
def test_a_mask_of_several_frames_is_refused(tmp_path: Path, suffix: str) -> None:
    """Of a stack with a page for each defect, all but the first would be normal."""
    frames = [Image.fromarray(255 * np.roll(DEFECT, shift, 0)) for shift in (0, 5)]

    with pytest.raises(DataError, match=r"holds several pictures, .* \(2 frames\)"):
        read(tmp_path / f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:])


def test_every_colour_is_a_defect(tmp_path: Path) -> None:
    """Of a red, a green and a dark blue class, a threshold of brightness keeps the green one."""
    rgb = painted([(DEFECT, (255, 0, 0)), (np.roll(DEFECT, 5, 0), (0, 255, 0)), (np.roll(DEFECT, 6, 1), (0, 0, 64))])
    raster = read(tmp_path / "a.png", rgb)

    assert np.array_equal(raster.pixels, rgb.any(axis=2))
    assert raster.notes == ("a mask of 3 colours: every one but black is defect",)


def test_the_colours_of_voc_have_a_border_too(tmp_path: Path) -> None:
    """The same mask, saved as RGB, would mark the rim as well."""
    raster = read(tmp_path / "a.png", painted([(DEFECT, VOC[1]), (RING, VOC[255])]))

    assert np.array_equal(raster.pixels, DEFECT)
    assert "VOC's border colour" in raster.notes[1]


def test_colours_survive_jpeg(tmp_path: Path) -> None:
    """A dark red of 128 would be lost here and there, or its blocks be defect too."""
    where = np.kron(DEFECT, np.ones((8, 8), np.uint8))
    rgb = np.zeros((*where.shape, 3), np.uint8)
    rgb[where > 0] = VOC[1]
    raster = read(tmp_path / "a.jpg", rgb, quality=90)

    assert np.count_nonzero(raster.pixels != where) < 0.1 * where.sum()
    assert len(raster.notes) == 1


@pytest.mark.parametrize("ground", [0, 255])
def test_a_mask_in_the_alpha_channel_is_found(tmp_path: Path, ground: int) -> None:
    """A cut-out of one colour would be all defect, or none."""
    rgba = np.full((*DEFECT.shape, 4), ground, np.uint8)
    rgba[..., 3] = 255 * DEFECT
    raster = read(tmp_path / "a.png", rgba)

    assert np.array_equal(raster.pixels, DEFECT)
    assert raster.notes == ("the alpha channel is the mask: opaque pixels are defect",)


@pytest.mark.parametrize("under", [(0, 0, 0), (255, 255, 255)])
def test_what_shows_on_a_transparent_ground_is_defect(tmp_path: Path, under: tuple[int, int, int]) -> None:
    """White under a transparent cover, as paint programs leave it, would be defect."""
    rgba = np.dstack([painted([(DEFECT, (255, 0, 0))], under), 255 * DEFECT])

    assert np.array_equal(read(tmp_path / "a.png", rgba).pixels, DEFECT)


def test_colour_and_alpha_that_disagree_are_refused(tmp_path: Path) -> None:
    """One of two masks in a file would be taken, by chance the wrong one."""
    grey = 255 * DEFECT
    rgba = np.dstack([grey, grey, grey, 255 * np.roll(DEFECT, 5, 0)])

    with pytest.raises(DataError, match=r"its colours mark other pixels than its opaque ones: .* \(15 and 0 pixels\)"):
        read(tmp_path / "a.png", rgba)


def test_few_grey_levels_are_named(tmp_path: Path) -> None:
    """A class drawn in 64 would be normal, and nobody would be told."""
    raster = read(tmp_path / "a.png", 255 * DEFECT + 64 * RING)

    assert np.array_equal(raster.pixels, DEFECT)
    assert raster.notes == ("grey levels 0, 64, 255: from 128 of 255 on they are defect",)


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_of_two_values_needs_no_range(tmp_path: Path, dtype: type, value: int) -> None:
    """A mask that a program of numbers has saved would be refused for its 32 bits."""
    assert np.array_equal(read(tmp_path / "a.tif", (DEFECT * value).astype(dtype)).pixels, DEFECT)
