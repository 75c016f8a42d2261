"""Grey files of more than 8 bits: one range for a category, found by a rule or named by the user."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stage.core.data_params import Prepare
from stage.core.errors import DataError
from stage.datasets.catalog import prepare
from stage.datasets.images import BY_FILE, WHOLE_RANGE, GreyRange, grey_range, read_image
from stage.datasets.table import read_catalog

LEVELS = np.array([[0, 1000, 4095]], np.uint16)


def save(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def read(path: Path, grey: GreyRange) -> list[int]:
    return read_image(path, max_megapixels=1, grey=grey).pixels[0, :, 0].tolist()


@pytest.mark.parametrize(
    ("peak", "white"), [(1, 255), (255, 255), (256, 1023), (4095, 4095), (4096, 16383), (16384, 65535), (65535, 65535)]
)
def test_white_is_the_top_of_the_fewest_bits_that_hold_the_category(tmp_path: Path, peak: int, white: int) -> None:
    """The photographs of a 12-bit camera would be all but black."""
    dark, bright = (save(tmp_path / f"{name}.png", np.array([[0, top]], np.uint16)) for name, top in (("a", 1), ("b", peak)))

    assert grey_range([dark, bright], max_megapixels=1) == GreyRange(0, white)


def test_what_cannot_be_read_does_not_decide(tmp_path: Path) -> None:
    """One damaged file would end the run before its row is written; files of 8 bits have no range to find."""
    whole = save(tmp_path / "a.png", LEVELS).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:45])
    plain = save(tmp_path / "b.png", np.array([[0, 255]], np.uint8))

    assert grey_range([tmp_path / "cut.png", plain, tmp_path / "nowhere.png"], max_megapixels=1) == WHOLE_RANGE
    assert grey_range([tmp_path / "a.png", plain], max_megapixels=1) == GreyRange(0, 4095)


def test_levels_are_scaled_by_the_range(tmp_path: Path) -> None:
    """1000 of 4095 is 62 of 255."""
    assert read(save(tmp_path / "a.png", LEVELS), GreyRange(0, 4095)) == [0, 62, 255]
    assert read(tmp_path / "a.png", GreyRange(1000, 2000, is_named=True)) == [0, 0, 255]


def test_white_is_zero_is_no_negative(tmp_path: Path) -> None:
    """Files that say that 0 is white would come out as negatives, beside others that do not. TIFF's tag 262 is 0 for these."""
    path = save(tmp_path / "a.tif", LEVELS, tiffinfo={262: 0})

    assert read(path, GreyRange(0, 4095)) == [255, 193, 0]
    assert read(path, GreyRange(0, 4095, is_named=True)) == [0, 62, 255]


def test_a_named_range_may_be_negative_and_covers_32_bits(tmp_path: Path) -> None:
    """A data set whose files do not say where white is could not be read at all."""
    assert read(save(tmp_path / "a.png", LEVELS), GreyRange(4095, 0, is_named=True)) == [255, 193, 0]
    floats = save(tmp_path / "a.tif", np.array([[0, 0.5, 1, np.nan]], np.float32))

    assert read(floats, GreyRange(0, 1, is_named=True)) == [0, 128, 255, 0]
    with pytest.raises(DataError, match=r"name it in prepare\.grey_range"):
        read(floats, WHOLE_RANGE)


@pytest.mark.parametrize("grey", [GreyRange(0, 4095, is_named=True), "auto"])
@pytest.mark.parametrize("is_plain", [False, True])
def test_a_pgm_has_the_levels_that_are_stored_in_it(tmp_path: Path, grey: GreyRange | str, is_plain: bool) -> None:
    """All but black would be white: Pillow stretches a PGM to 65,535. 2048 of 4095 is 127.5 of 255, as in a PNG."""
    levels, path = np.array([[0, 1000, 2048, 4095]], np.uint16), tmp_path / "a.pgm"
    stored = b" ".join(b"%d" % level for level in levels[0]) if is_plain else levels.astype(">u2").tobytes()
    path.write_bytes((b"P2" if is_plain else b"P5") + b" 4 1 4095\n" + stored)
    known = grey if isinstance(grey, GreyRange) else grey_range([path], max_megapixels=1)

    assert read(path, known) == read(save(tmp_path / "a.png", levels), known) == [0, 62, 128, 255]


def test_a_texture_is_as_bright_as_its_file_allows(tmp_path: Path) -> None:
    """A PGM of 12 bits would be nearly black among textures, which have no common range."""
    levels, path = np.array([[0, 1000, 2048, 4095]], np.uint16), tmp_path / "a.pgm"
    path.write_bytes(b"P5 4 1 4095\n" + levels.astype(">u2").tobytes())

    assert read(path, BY_FILE) == [0, 62, 128, 255]
    assert read(save(tmp_path / "a.png", levels * 16), BY_FILE) == [0, 62, 128, 255]


def test_16_bits_of_colour_are_noted_in_a_ppm_too(tmp_path: Path) -> None:
    """Nobody would know that half of the bits are not used."""
    for name, top, stored in (("wide", 65535, np.zeros(3, ">u2")), ("narrow", 200, np.zeros(3, np.uint8))):
        (tmp_path / f"{name}.ppm").write_bytes(b"P6 1 1 %d\n" % top + stored.tobytes())

    assert read_image(tmp_path / "wide.ppm", max_megapixels=1).notes == ("16 bits a channel, of which the high 8 are used",)
    assert read_image(tmp_path / "narrow.ppm", max_megapixels=1).notes == ()


@pytest.mark.parametrize(("named", "brightest"), [("auto", 255), ((0.0, 65535.0), 16)])
def test_a_category_has_one_range(params: Prepare, mvtec: Path, tmp_path: Path, named: object, brightest: int) -> None:
    """A dark part would come out as bright as a bright one, or all parts black."""
    for path in (mvtec / "part").glob("t*/*/*.png"):
        levels = np.array(Image.open(path).convert("L")).astype(np.uint16) * (16 if "000" in path.name else 4)
        levels[:16, :16] = 4095 if path.name == "000.png" and "train" in str(path) else 0
        Image.fromarray(levels).save(path)
    prepare(params.model_copy(update={"grey_range": named}), ["part"], mvtec, tmp_path / "out")
    catalog = read_catalog(tmp_path / "out/part/catalog.parquet")

    assert set(catalog["note"]) == {f"16 bits a pixel, 0 is black and {4095 if named == 'auto' else 65535} white"}
    assert read(mvtec / "part/train/good/000.png", GreyRange(0, 4095 if named == "auto" else 65535))[0] == brightest
