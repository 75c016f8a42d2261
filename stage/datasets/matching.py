"""The mask of one photograph: joined from its files, turned like the photograph, and refused if it cannot belong to it.

H, W size of the upright photograph. Masks are (H, W) uint8 in {0, 1}, 1 = defect.
"""

from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from stage.core.data_params import Prepare
from stage.core.errors import DataError
from stage.datasets.folder import FoundFile
from stage.datasets.images import Raster, check_size
from stage.datasets.masks import read_mask
from stage.datasets.rules import GOOD

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # makes a picture with this EXIF orientation upright
SIDEWAYS = range(5, 9)  # EXIF orientations that exchange width and height
LOOK = "look whether it does"  # in notes on what the file does not tell; the summary begins with them
LARGE = 0.5  # of the image; a defect on more of it is unusual


def mask_for(found: FoundFile, root: Path, params: Prepare, photograph: Raster) -> Raster:
    """The mask of an image, empty if it has none; raises DataError if it cannot be the image's."""
    shape = photograph.pixels.shape[:2]
    if not found.masks:
        return Raster(np.zeros(shape, np.uint8), "", ())
    rasters = [_read(root / path, params, photograph) for path in found.masks]
    pixels = np.bitwise_or.reduce([raster.pixels for raster in rasters])
    joined = [f"joined from {len(rasters)} files"] if len(rasters) > 1 else []
    notes = (*joined, *dict.fromkeys(note for raster in rasters for note in raster.notes))
    try:
        large = _checked(pixels, found.defect == GOOD, params.mask_threshold, notes)
    except DataError as error:
        raise _of_mask(PurePosixPath(found.mask or "").name, error) from None
    return Raster(pixels, rasters[0].mode, (*notes, *large))


def _read(path: Path, params: Prepare, photograph: Raster) -> Raster:
    try:
        raster = read_mask(path, max_megapixels=params.max_megapixels, threshold=params.mask_threshold)
        raster = _turned(raster, photograph)
        check_size(raster.pixels, photograph.pixels.shape[:2])
    except DataError as error:
        raise _of_mask(path.name, error) from None
    return raster


def _of_mask(name: str, error: DataError) -> DataError:
    return DataError(f"its mask: {error.reason}", ": ".join(filter(None, (name, error.detail))))


def _turned(mask: Raster, photograph: Raster) -> Raster:
    """The mask turned like the photograph. If their EXIF orientations differ, the sizes decide whether to turn it; if they cannot, a note says so."""
    ours, theirs, shape = mask.orientation, photograph.orientation, photograph.pixels.shape[:2]
    if ours == theirs:
        return mask
    if ours == 1 and theirs in SIDEWAYS and mask.pixels.shape != shape and mask.pixels.shape == shape[::-1]:
        pixels = np.array(Image.fromarray(mask.pixels).transpose(UPRIGHT[theirs]))
        return mask._replace(pixels=pixels, notes=(*mask.notes, f"turned by the photograph's EXIF orientation {theirs}, as its size asks"))
    if theirs in SIDEWAYS and ours == 1 and shape[0] != shape[1]:
        return mask  # it has the size of the upright photograph only
    doubt = f"the photograph's EXIF orientation is {theirs}, the mask's {ours}: taken to fit the upright photograph, {LOOK}"
    return mask._replace(notes=(*mask.notes, doubt))


def _checked(mask: np.ndarray, is_normal: bool, threshold: int, notes: tuple[str, ...]) -> list[str]:
    """A note if much of the image is marked; raises DataError for a mask that contradicts its folder or looks inverted."""
    if is_normal and mask.any():
        raise DataError("marks defect, where the image is normal by its place", f"{mask.sum()} pixels")
    if not is_normal and not mask.any():
        raise DataError(f"marks no defect: no pixel reaches prepare.mask_threshold, {threshold}", "; ".join(notes))
    if mask.mean() <= LARGE:
        return []
    share = f"{mask.mean():.1%} of the image"
    if mask[[0, -1]].all() and mask[:, [0, -1]].all():
        raise DataError(
            "marks most of the image and all of its border, so it looks inverted: save it with the defect white on black", share
        )
    return [f"marks {share}"]
