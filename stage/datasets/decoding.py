"""Decodes files as upright pictures of a limited size. Whatever is wrong with a file becomes a DataError."""

import warnings
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from stage.core.errors import DataError

# Other formats are left out: EPS starts Ghostscript, and no camera writes the rest.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM", "JPEG2000")
LOSSY = ("JPEG", "MPO", "WEBP", "JPEG2000")  # formats that may change a value by a little
PHOTOMETRIC = 262  # TIFF's tag; 0 says that white is zero. Pillow obeys it at 8 bits and below only
WIDEST = 65535  # the largest level of 16 bits
TURNED = range(2, 9)  # EXIF orientations other than upright


class Picture(NamedTuple):
    """An upright picture and what its file says of it; `orientation` is EXIF's, 1 if the file has none.

    `is_wide`: grey with 16 bits a pixel. `top`: the largest level that a wide file may hold, which a PGM's header says.
    `is_negative`: wide, and white is zero. `is_lossy`: values may be a little off.
    """

    image: Image.Image
    mode: str
    frames: int
    is_wide: bool
    top: int
    is_negative: bool
    is_lossy: bool
    orientation: int
    notes: tuple[str, ...]


def decode(path: Path, max_megapixels: float) -> Picture:
    """The first frame of an image file; raises DataError. The decoder's warnings become notes."""
    with _pixel_limit(max_megapixels), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        with _refusals(max_megapixels):
            _check_not_empty(path)
            with Image.open(path, formats=FORMATS) as opened:
                picture = _upright(opened)
    return picture._replace(notes=(*picture.notes, *(str(warning.message) for warning in caught)))


def is_wide(path: Path, max_megapixels: float) -> bool:
    """Whether the header promises a grey image of 16 bits a pixel; False for a file that cannot be opened. Decodes no pixel."""
    try:
        with _pixel_limit(max_megapixels), warnings.catch_warnings(), _refusals(max_megapixels):
            warnings.simplefilter("ignore")
            with Image.open(path, formats=FORMATS) as opened:
                return _is_wide(opened)
    except DataError:
        return False


def _check_not_empty(path: Path) -> None:
    if path.stat().st_size == 0:
        raise DataError("the file is empty, 0 bytes")


def _is_wide(opened: Image.Image) -> bool:
    return opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format == "PPM")


def _upright(opened: Image.Image) -> Picture:
    frames, wide = getattr(opened, "n_frames", 1), _is_wide(opened)
    raw, limit = _raw_mode(opened)
    negative = wide and getattr(opened, "tag_v2", {}).get(PHOTOMETRIC) == 0
    opened.load()
    orientation = opened.getexif().get(ExifTags.Base.Orientation, 1)
    notes = (f"the first of {frames} frames",) * (frames > 1)
    notes += ("16 bits a channel, of which the high 8 are used",) * ((";16" in raw or limit > 255) and not wide)
    return Picture(
        _unstretched(opened, limit or WIDEST) if opened.mode == "I" and wide else ImageOps.exif_transpose(opened),
        opened.mode,
        frames,
        wide,
        limit or WIDEST,
        negative,
        opened.format in LOSSY,
        orientation if orientation in TURNED else 1,
        notes,
    )


def _raw_mode(opened: Image.Image) -> tuple[str, int]:
    """How a file stores a pixel, in Pillow's words; and the largest level by the header of a PGM or PPM, 0 if Pillow keeps none."""
    tiles = getattr(opened, "tile", None)
    arguments = tiles[0].args if tiles else ""
    several = arguments if isinstance(arguments, tuple) and arguments else (arguments,)
    return str(several[0]), int(several[1]) if opened.format == "PPM" and len(several) == 2 else 0


def _unstretched(opened: Image.Image, top: int) -> Image.Image:
    """A wide PGM with the levels that are in the file; Pillow has stretched them so that the header's largest is 65,535."""
    return Image.fromarray(np.rint(np.array(opened) * (top / WIDEST)).astype(np.uint16))


@contextmanager
def _refusals(max_megapixels: float) -> Generator[None]:
    """Turn whatever Pillow raises into a DataError."""
    try:
        yield
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"not an image in a known format ({', '.join(FORMATS)}), or cut off within its header") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"larger than prepare.max_megapixels, {max_megapixels:g}", str(error)) from None
    except Exception as error:  # noqa: BLE001  damaged bytes can raise anything in a decoder
        raise DataError("truncated or damaged, it does not decode", str(getattr(error, "strerror", None) or error)) from None


@contextmanager
def _pixel_limit(max_megapixels: float) -> Generator[None]:
    # Pillow checks its global limit against the header, before any pixel is decoded.
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = int(max_megapixels * 1e6)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before
