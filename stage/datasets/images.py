"""Photographs as pixels, whatever their mode. An unusable file raises DataError; a conversion leaves a note.

H, W image size after EXIF rotation. Images are (H, W, 3) uint8 RGB; masks are (H, W) uint8 in {0, 1}, 1 = defect.
"""

import hashlib
import math
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stage.core.errors import DataError
from stage.datasets.decoding import Picture, decode, is_wide

DEPTHS = {8: 255, 10: 1023, 12: 4095, 14: 16383, 16: 65535}  # bits that cameras have, and their largest level


class Raster(NamedTuple):
    """Pixels as the project uses them, the file's own mode, notes on conversions and warnings, and the EXIF orientation that was undone."""

    pixels: np.ndarray
    mode: str
    notes: tuple[str, ...]
    orientation: int = 1


class GreyRange(NamedTuple):
    """The levels of a grey file of more than 8 bits that become 0 and 255. If `is_named`, the user set them, and the files' tags do not count."""

    black: float = 0
    white: float = DEPTHS[16]
    is_named: bool = False


WHOLE_RANGE = GreyRange()
BY_FILE = GreyRange(0, math.inf)  # white is the largest level that each file may hold: a PGM's header says it, in others it is 65,535
Converted = tuple[np.ndarray, list[str]]


def read_image(path: Path, *, max_megapixels: float, grey: GreyRange = WHOLE_RANGE) -> Raster:
    """An image file as (H, W, 3) uint8 RGB; raises DataError."""
    picture = decode(path, max_megapixels)
    pixels, notes = _rgb(picture, grey)
    return Raster(pixels, picture.mode, (*notes, *picture.notes), picture.orientation)


def grey_range(paths: Iterable[Path], *, max_megapixels: float) -> GreyRange:
    """The range of a category's 16-bit files: white is the largest level of the fewest bits (8, 10, 12, 14, 16) that hold all of them."""
    peak = 0
    for path in paths:
        if peak <= DEPTHS[14] and is_wide(path, max_megapixels):
            peak = max(peak, _peak(path, max_megapixels))
    return GreyRange(0, min(level for level in DEPTHS.values() if level >= peak)) if peak else WHOLE_RANGE


def _peak(path: Path, max_megapixels: float) -> int:
    try:
        return int(np.array(decode(path, max_megapixels).image).max())
    except DataError:
        return 0  # its own row will say what is wrong with it


def check_size(mask: np.ndarray, shape: tuple[int, int]) -> None:
    """Raise DataError if a mask (H, W) differs in size from its image."""
    if mask.shape != shape:
        raise DataError(
            "another size than the image's: they must be equal", f"{mask.shape[1]}x{mask.shape[0]} pixels, the image {shape[1]}x{shape[0]}"
        )


def _rgb(picture: Picture, grey: GreyRange) -> Converted:
    image = picture.image
    if picture.is_wide or (image.mode in ("I", "F") and grey.is_named):
        return _scaled(np.array(image), picture, grey)
    if image.mode in ("I", "F"):
        raise DataError("32 bits a pixel, whose range the file does not say: name it in prepare.grey_range", f"mode {image.mode}")
    if not image.has_transparency_data:
        return np.array(image.convert("RGB")), []
    return _without_alpha(image)


def _scaled(values: np.ndarray, picture: Picture, grey: GreyRange) -> Converted:
    black, white = grey.black, picture.top if grey == BY_FILE else grey.white
    black, white = (white, black) if picture.is_negative and not grey.is_named else (black, white)
    with np.errstate(invalid="ignore"):
        levels = np.nan_to_num((values.astype(np.float64) - black) * (255 / (white - black)), nan=0.0)
    pixels = np.rint(np.clip(levels, 0, 255)).astype(np.uint8)
    bits = 16 if picture.is_wide else 32
    return np.repeat(pixels[..., None], 3, axis=2), [f"{bits} bits a pixel, {black:g} is black and {white:g} white"]


def _without_alpha(image: Image.Image) -> Converted:
    coloured = np.array(image.convert("RGBA"))
    see_through = np.count_nonzero(coloured[..., 3] < 255)
    return coloured[..., :3].copy(), [f"alpha dropped, {see_through} pixels were not opaque"] if see_through else []


def pixel_digest(pixels: NDArray[np.uint8]) -> str:
    """SHA-256 of an array's shape, as `16x16x3`, a `|`, and its bytes."""
    shape = "x".join(map(str, pixels.shape))
    return hashlib.sha256(f"{shape}|".encode() + np.ascontiguousarray(pixels).tobytes()).hexdigest()
