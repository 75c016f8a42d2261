"""The object of each training image: found by a threshold, or read from a mask that the user drew."""

from pathlib import Path, PurePosixPath

import numpy as np

from stage.core.data_params import Prepare
from stage.core.errors import DataError
from stage.datasets.folder import FoundFile
from stage.datasets.foreground import Outline, checked, foreground
from stage.datasets.images import check_size
from stage.datasets.masks import read_mask
from stage.datasets.resize import resize_mask
from stage.datasets.rules import GOOD


def outline_of(found: FoundFile, root: Path, params: Prepare, image: np.ndarray, shape: tuple[int, int]) -> Outline | None:
    """The object of a normal training image or of a defective one; None for other images. Raises DataError.

    A normal image's object is where defects may lie; a defective image's says where on the part its defects lie. Users draw only the former.

    `image` is the prepared image, (S, S, 3); `shape` is the file's (H, W), which a foreground file must match.
    """
    is_normal = found.defect == GOOD
    if is_normal and found.source_split != "train":
        return None
    if params.foreground.strategy != "files":
        return foreground(image, params.foreground)
    if not is_normal:
        return None
    if len(found.foregrounds) != 1:
        names = " and ".join(found.foregrounds[:2]) or "none"
        raise DataError("takes one foreground file of its name for prepare.foreground.strategy files", f"found {names}")
    return _read(found.foregrounds[0], root, params, shape)


def _read(path: str, root: Path, params: Prepare, shape: tuple[int, int]) -> Outline:
    try:
        raster = read_mask(root / path, max_megapixels=params.max_megapixels, threshold=params.mask_threshold)
        check_size(raster.pixels, shape)
    except DataError as error:
        raise DataError(f"its foreground: {error.reason}", ": ".join(filter(None, (PurePosixPath(path).name, error.detail)))) from None
    return checked(resize_mask(raster.pixels, params.image_size), "files")
