"""Every kind of file that a camera or an annotation tool writes becomes the same kind of array."""

import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stage.core.errors import DataError
from stage.datasets.images import read_image
from stage.datasets.masks import read_mask

GREY = np.array([[0, 60, 128], [200, 254, 255]], np.uint8)


def save(path: Path, pixels: np.ndarray, mode: str | None = None, **options: object) -> Path:
    picture = Image.fromarray(pixels)
    (picture.convert(mode) if mode else picture).save(path, **options)
    return path


def image(path: Path) -> np.ndarray:
    return read_image(path, max_megapixels=1).pixels


def mask(path: Path, threshold: int = 128) -> list[list[int]]:
    return read_mask(path, max_megapixels=1, threshold=threshold).pixels.tolist()


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", "png"), ("RGB", "PNG"), ("P", "png"), ("RGBA", "png"), ("LA", "png"), ("RGB", "bmp"), ("L", "tif")]
)
def test_modes_that_hold_the_same_grey_give_the_same_pixels(tmp_path: Path, mode: str, suffix: str) -> None:
    """The colours of an image would depend on the program that saved it."""
    raster = read_image(save(tmp_path / f"a.{suffix}", GREY, mode), max_megapixels=1)

    assert np.array_equal(raster.pixels, np.repeat(GREY[..., None], 3, axis=2))
    assert raster.pixels.dtype == np.uint8
    assert raster.mode == mode


def test_one_bit_images_are_black_and_white(tmp_path: Path) -> None:
    """A bilevel image would be 0 and 1, all but black."""
    assert image(save(tmp_path / "a.png", GREY > 100))[..., 0].tolist() == [[0, 0, 255], [255, 255, 255]]


def test_cmyk_without_ink_is_white(tmp_path: Path) -> None:
    """Printed-matter cameras would give negatives."""
    no_ink = Image.new("CMYK", (2, 2), (0, 0, 0, 0))
    no_ink.save(tmp_path / "a.tif")

    assert image(tmp_path / "a.tif").min() == 255


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bits_are_scaled_by_their_range_and_not_by_the_image(tmp_path: Path, suffix: str) -> None:
    """The same part would be brighter in one image than in the next. 257 = 65535 / 255."""
    wide = np.array([[0, 257, 128 * 257, 1000]], np.uint16)
    raster = read_image(save(tmp_path / f"a.{suffix}", wide), max_megapixels=1)

    assert raster.pixels[..., 0].tolist() == [[0, 1, 128, 4]]
    assert raster.notes == ("16 bits a pixel, 0 is black and 65535 white",)


@pytest.mark.parametrize("pixels", [np.zeros((2, 2), np.float32), np.zeros((2, 2), np.int32)])
def test_32_bits_are_refused(tmp_path: Path, pixels: np.ndarray) -> None:
    """Nobody knows where white is; a guess would differ per image."""
    with pytest.raises(DataError, match="32 bits a pixel"):
        image(save(tmp_path / "a.tif", pixels))


def test_alpha_is_dropped_with_a_note(tmp_path: Path) -> None:
    """Pixels under a transparent cover would be blended with a colour that no camera saw."""
    rgba = np.full((2, 2, 4), 70, np.uint8)
    raster = read_image(save(tmp_path / "a.png", rgba), max_megapixels=1)

    assert raster.pixels.tolist() == np.full((2, 2, 3), 70).tolist()
    assert raster.notes == ("alpha dropped, 4 pixels were not opaque",)


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    """An image would lie on its side beside an upright mask. Orientation 6: shown turned by 90 degrees clockwise."""
    exif = Image.Exif()
    exif[0x0112] = 6

    assert image(save(tmp_path / "a.png", GREY, exif=exif))[..., 0].tolist() == np.rot90(GREY, -1).tolist()


def test_odd_names_are_read(tmp_path: Path) -> None:
    """A user with spaces, umlauts or braces in file names could not begin."""
    for name in ("a b.PNG", "Prüfling #7 {name}.png", "部品.png", "-rf *.png", "a\nb.png"):
        assert image(save(tmp_path / name, GREY)).shape == (2, 3, 3)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty, 0 bytes"), (b"no image at all", "not an image"), (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image")],
)
def test_files_that_hold_no_image_are_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    """A user would see a traceback; an EPS file would start Ghostscript."""
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=reason):
        image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "tif", "gif", "webp"])
def test_truncated_files_are_refused_at_any_length(tmp_path: Path, suffix: str) -> None:
    """A half-copied file would end the run, or bring grey bands into the training."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    whole = save(tmp_path / f"whole.{suffix}", noise).read_bytes()
    for share in (0.01, 0.1, 0.5, 0.9):
        (tmp_path / f"part.{suffix}").write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(DataError):
            image(tmp_path / f"part.{suffix}")


def test_bombs_are_refused_by_their_header(tmp_path: Path) -> None:
    """A file of a few bytes would fill the memory. It holds a header and no pixels: decoding would give another error."""
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunks = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in ((b"IHDR", header), (b"IDAT", b""))
    ]
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))

    with pytest.raises(DataError, match=r"prepare.max_megapixels, 200.*3600000000"):
        read_image(tmp_path / "a.png", max_megapixels=200)


def test_the_limit_is_ours_and_not_pillows(tmp_path: Path) -> None:
    """An image just over the limit would pass with a warning, and the limit of other users of Pillow would change."""
    before = Image.MAX_IMAGE_PIXELS
    path = save(tmp_path / "a.png", np.zeros((100, 101), np.uint8))

    with pytest.raises(DataError, match="max_megapixels"):
        read_image(path, max_megapixels=0.01)
    assert read_image(path, max_megapixels=0.0101).pixels.shape == (100, 101, 3)
    assert before == Image.MAX_IMAGE_PIXELS


def test_what_pillow_warns_of_becomes_a_note(tmp_path: Path) -> None:
    """A doubt about a file would scroll by in a terminal instead of standing in the catalog."""
    path = save(tmp_path / "a.jpg", GREY, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        notes = read_image(path, max_megapixels=1).notes
    assert [note.split(".")[0] for note in notes] == ["Corrupt EXIF data"]


def test_first_frame_is_noted(tmp_path: Path) -> None:
    """A stack of exposures would lose all but one, and no one would know."""
    frames = [Image.fromarray(GREY), Image.fromarray(255 - GREY)]
    frames[0].save(tmp_path / "a.tif", save_all=True, append_images=frames[1:])

    assert read_image(tmp_path / "a.tif", max_megapixels=1).notes == ("the first of 2 frames",)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "LA"])
def test_mask_is_defect_from_the_threshold_on(tmp_path: Path, mode: str) -> None:
    """The grey edge of a mask would count in one tool and not in the other."""
    path = save(tmp_path / "a.png", GREY, mode)

    assert mask(path, 128) == [[0, 0, 1], [1, 1, 1]]
    assert mask(path, 129) == [[0, 0, 0], [1, 1, 1]]
    assert mask(path, 255) == [[0, 0, 0], [0, 0, 1]]


def test_16_bit_mask_is_scaled_first(tmp_path: Path) -> None:
    """A 16-bit mask would be all defect, since nearly every level exceeds 128."""
    assert mask(save(tmp_path / "a.png", np.array([[0, 300, 127 * 257, 128 * 257]], np.uint16))) == [[0, 0, 0, 1]]


@pytest.mark.parametrize(
    ("top", "levels", "marked", "notes"),
    [
        (65535, [0, 65535], [0, 1], ()),
        (65535, [0, 30000, 65535], [0, 0, 1], ("grey levels 0, 30000, 65535: from 128 of 255 on they are defect",)),
        (4095, [0, 4095], [0, 1], ()),
        (4095, [0, 2047, 2060], [0, 0, 1], ("grey levels 0, 2047, 2060: from 128 of 255 on they are defect",)),
        (4095, [0, 1, 2], [0, 1, 1], ("a mask of labels 1, 2: every one but 0 is defect",)),
    ],
)
def test_16_bit_pgm_mask_is_read_by_its_largest_level(
    tmp_path: Path, top: int, levels: list[int], marked: list[int], notes: tuple[str]
) -> None:
    """Masks would be set aside for 32 bits that they do not have, or marked by levels that are not in the file. 4095 / 255 * 128 = 2055.5."""
    (tmp_path / "a.pgm").write_bytes(b"P5 %d 1 %d\n" % (len(levels), top) + np.array(levels, ">u2").tobytes())
    raster = read_mask(tmp_path / "a.pgm", max_megapixels=1, threshold=128)

    assert raster.pixels.tolist() == [marked]
    assert raster.notes == notes


def test_bilevel_mask_is_read(tmp_path: Path) -> None:
    """A one-bit mask would be empty."""
    assert mask(save(tmp_path / "a.png", np.array([[False, True]]))) == [[0, 1]]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_mask_of_labels_0_and_1_is_read_with_a_note(tmp_path: Path, dtype: type) -> None:
    """The label maps of most annotation tools would all be set aside as empty."""
    raster = read_mask(save(tmp_path / "a.png", np.array([[0, 1], [1, 0]], dtype)), max_megapixels=1, threshold=128)

    assert raster.pixels.tolist() == [[0, 1], [1, 0]]
    assert raster.notes == ("a mask of labels 1: every one but 0 is defect",)


@pytest.mark.parametrize(("colour", "noted"), [((255, 255, 255), 0), ((128, 0, 0), 1), ((0, 0, 1), 1)])
def test_palette_mask_of_labels_is_read_whatever_its_colours(tmp_path: Path, colour: tuple[int, int, int], noted: int) -> None:
    """VOC's dark red (luminance 38) would be no defect."""
    picture = Image.new("P", (2, 1))
    picture.putdata([0, 1])
    picture.putpalette([0, 0, 0, *colour])
    picture.save(tmp_path / "a.png")
    raster = read_mask(tmp_path / "a.png", max_megapixels=1, threshold=128)

    assert raster.pixels.tolist() == [[0, 1]]
    assert len(raster.notes) == noted


def test_dark_mask_of_many_levels_is_empty(tmp_path: Path) -> None:
    """The faint noise of a JPEG mask would be taken for labels."""
    noise = np.random.default_rng(0).integers(0, 8, (16, 16), dtype=np.uint8)
    path = save(tmp_path / "a.jpg", noise, quality=95)

    assert len(np.unique(np.array(Image.open(path)))) > 2
    assert not np.any(mask(path))
