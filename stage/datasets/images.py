"""Image files as pixels, whatever their mode. An unusable file raises DataError; a conversion leaves a note.

H, W image size after EXIF rotation. Images are (H, W, 3) uint8 RGB; masks are (H, W) uint8 in {0, 1}, 1 = defect.
"""

import struct
import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from stage.core.errors import DataError

# Left out on purpose: EPS starts Ghostscript, and no camera writes the rest.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM", "JPEG2000")
BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, IndexError, KeyError, TypeError, OverflowError, RuntimeError)
LABEL_VALUES = 2  # a mask with at most this many values, all below the threshold, holds labels and not grey levels


class Raster(NamedTuple):
    """Pixels as the project uses them, the file's own mode, and notes on conversions and warnings."""

    pixels: np.ndarray
    mode: str
    notes: tuple[str, ...]


Converted = tuple[np.ndarray, list[str]]


def read_image(path: Path, *, max_megapixels: float) -> Raster:
    """An image file as (H, W, 3) uint8 RGB; raises DataError."""
    return _read(path, max_megapixels, _rgb)


def read_mask(path: Path, *, max_megapixels: float, threshold: int) -> Raster:
    """A mask file as (H, W) uint8 in {0, 1}, maybe empty: grey levels >= `threshold`, or labels above 0, are defect; raises DataError."""
    return _read(path, max_megapixels, partial(_binary, threshold=threshold))


def check_size(mask: np.ndarray, shape: tuple[int, int]) -> None:
    """Raise DataError if a mask (H, W) differs in size from its image."""
    if mask.shape != shape:
        raise DataError(f"{mask.shape[1]}x{mask.shape[0]} pixels, the image {shape[1]}x{shape[0]}: they must be equal")


def _read(path: Path, max_megapixels: float, convert: Callable[[Image.Image, bool], Converted]) -> Raster:
    with _pixel_limit(max_megapixels), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        mode, (pixels, notes) = _decode(path, max_megapixels, convert)
    return Raster(pixels, mode, (*notes, *(str(warning.message) for warning in caught)))


def _decode(path: Path, max_megapixels: float, convert: Callable[[Image.Image, bool], Converted]) -> tuple[str, Converted]:
    try:
        if path.stat().st_size == 0:
            raise DataError("the file is empty, 0 bytes")
        with Image.open(path, formats=FORMATS) as picture:
            frames = getattr(picture, "n_frames", 1)
            is_wide = picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PPM")
            pixels, notes = convert(ImageOps.exif_transpose(picture), is_wide)
            return picture.mode, (pixels, notes + [f"the first of {frames} frames"] * (frames > 1))
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(f"not an image in a known format ({', '.join(FORMATS)}), or cut off within its header") from None
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DataError(f"larger than prepare.max_megapixels, {max_megapixels:g}: {error}") from None
    except BROKEN as error:
        raise DataError(f"truncated or damaged, it does not decode: {getattr(error, 'strerror', None) or error}") from None


@contextmanager
def _pixel_limit(max_megapixels: float) -> Generator[None]:
    # Pillow checks its global limit against the header, before any pixel is decoded.
    before = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = int(max_megapixels * 1e6)
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _rgb(picture: Image.Image, is_wide: bool) -> Converted:
    if is_wide:
        return np.repeat(_eight_bits(picture)[..., None], 3, axis=2), ["16 bits a pixel, divided by 257"]
    _refuse_unscaled(picture)
    if not picture.has_transparency_data:
        return np.array(picture.convert("RGB")), []
    coloured = np.array(picture.convert("RGBA"))
    see_through = np.count_nonzero(coloured[..., 3] < 255)
    return coloured[..., :3].copy(), [f"alpha dropped, {see_through} pixels were not opaque"] if see_through else []


def _binary(picture: Image.Image, is_wide: bool, *, threshold: int) -> Converted:
    _refuse_unscaled(picture, is_wide)
    grey = _eight_bits(picture) if is_wide else _luminance(picture)
    stored = np.array(picture) if is_wide or picture.mode == "P" else grey
    if grey.max() < threshold and stored.any() and np.unique(stored).size <= LABEL_VALUES:
        return (stored > 0).astype(np.uint8), [f"mask of labels up to {stored.max()}: every one but 0 is defect"]
    return (grey >= threshold).astype(np.uint8), []


def _luminance(picture: Image.Image) -> np.ndarray:
    opaque = picture.convert("RGBA") if picture.has_transparency_data or picture.mode == "P" else picture
    return np.array(opaque.convert("L"))


def _eight_bits(picture: Image.Image) -> np.ndarray:
    # 65535 / 255 = 257: scaled by the file's range, not by this image's own, so that images stay comparable.
    return ((np.array(picture).astype(np.uint32) + 128) // 257).astype(np.uint8)


def _refuse_unscaled(picture: Image.Image, is_wide: bool = False) -> None:
    if picture.mode in ("I", "F") and not is_wide:
        raise DataError(f"32 bits a pixel (mode {picture.mode}), whose range the file does not say: save it with 8 or 16 bits")
