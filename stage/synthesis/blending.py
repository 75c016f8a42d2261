"""Pastes defects into photographs. Outside the mask, and beyond a soft seam around it, every byte is the photograph's.

H, W image size, s side of the base's image. Images are (H, W, 3) uint8, masks (H, W) uint8 in {0, 1}, 1 = defect.
"""

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from stage.datasets.components import bounding_box, components, dilated
from stage.datasets.resize import resize_image
from stage.datasets.windows import Window

FULL_STRENGTH_WIDTH = 6  # px; components up to this width keep full strength (5 and 6 px wide both are 3 px deep in the middle)


def paste_weights(mask: NDArray[np.uint8], feather: int) -> NDArray[np.float32]:
    """Weight of the synthetic pixels, (H, W) in [0, 1]: 0 outside the mask, rising inward over `feather` px, 1 at the core of each part.

    Components up to 6 px wide keep weight 1 throughout, so that a tiny defect keeps its full strength.
    """
    weights = mask.astype(np.float32)
    labels = components(mask)
    for number, box in enumerate(ndimage.find_objects(labels), 1):
        if min(side.stop - side.start for side in box) <= FULL_STRENGTH_WIDTH:
            continue
        inside = labels[box] == number
        depths: NDArray[np.float64] = ndimage.distance_transform_edt(np.pad(inside, 1))  # pyright: ignore[reportAssignmentType]  # None if asked
        depth = depths[1:-1, 1:-1]
        if (core := depth.max()) > FULL_STRENGTH_WIDTH / 2:
            weights[box][inside] = np.minimum(1, depth / min(feather + 1, core))[inside]
    return weights


def paste_back(synthetic: NDArray[np.uint8], background: NDArray[np.uint8], mask: NDArray[np.uint8], feather: int) -> NDArray[np.uint8]:
    """`synthetic` inside the mask, `background` byte for byte outside it; (H, W, 3) uint8 each. Computes within the mask's bounding box."""
    box = bounding_box(mask)
    weights = paste_weights(mask[box], feather)[..., None]
    mixed = weights * synthetic[box] + (1 - weights) * background[box]
    pasted = background.copy()
    pasted[box] = np.where(weights > 0, np.rint(mixed), background[box])
    return pasted


def paste(
    synthetic: NDArray[np.uint8], background: NDArray[np.uint8], mask: NDArray[np.uint8], place: Window, feather: int
) -> NDArray[np.uint8]:
    """The photograph (H, H, 3) with `synthetic` (s, s, 3), made for a window, inside the mask; byte for byte `background` outside it."""
    image = background.copy()
    image[place.region] = paste_back(_resized(synthetic, place.side), background[place.region], mask[place.region], feather)
    return image


def _resized(synthetic: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if len(synthetic) <= side:
        return synthetic if len(synthetic) == side else resize_image(synthetic, side)
    # The mean over each pixel's own area: a wider filter would mix its surroundings into a defect of a few pixels.
    return np.array(Image.fromarray(synthetic).resize((side, side), Image.Resampling.BOX))


def blended(
    defect: NDArray[np.uint8], background: NDArray[np.uint8], mask: NDArray[np.uint8], *, blend: str, reach: int
) -> NDArray[np.uint8]:
    """`defect` inside the mask on `background`; (H, W, 3) uint8 each. Nothing changes farther than `reach` px from the mask.

    `hard` changes nothing outside the mask; `outward` lets the defect fade out over `reach` px beyond it; `poisson` keeps the
    defect's gradients and meets the background at that distance (Perez et al., SIGGRAPH 2003). None of them softens
    inside the mask: those pixels would look normal and still be labelled as defect.
    """
    box = _grown(bounding_box(mask), reach + 2, mask.shape)
    inside, old, new = mask[box], background[box], defect[box]
    if blend == "poisson":
        mixed = _gradients_kept(new, old, dilated(inside, reach))
    else:
        mixed = _faded(new, old, inside, reach if blend == "outward" else 0)
    image = background.copy()
    image[box] = mixed
    return image


def _faded(new: NDArray[np.uint8], old: NDArray[np.uint8], mask: NDArray[np.uint8], reach: int) -> NDArray[np.uint8]:
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(mask == 0)  # pyright: ignore[reportAssignmentType]  # None if asked
    weights = np.clip(1 - distance / (reach + 1), 0, 1)[..., None]
    weights[dilated(mask, reach) == 0] = 0
    return np.rint(weights * new + (1 - weights) * old).astype(np.uint8)


def _gradients_kept(new: NDArray[np.uint8], old: NDArray[np.uint8], region: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """OpenCV's seamless clone in a wider frame, because it refuses a region that touches the border."""
    frame = 2
    padded_new, padded_old = (np.pad(each, ((frame, frame), (frame, frame), (0, 0)), mode="reflect") for each in (new, old))
    padded = np.pad(region, frame)
    rows, columns = bounding_box(padded)
    centre = ((columns.start + columns.stop) // 2, (rows.start + rows.stop) // 2)
    cloned = cv2.seamlessClone(padded_new, padded_old, padded * np.uint8(255), centre, cv2.NORMAL_CLONE)
    height, width = region.shape
    return np.where(region[..., None] > 0, cloned[frame : frame + height, frame : frame + width], old)


def _grown(box: tuple[slice, slice], margin: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    rows, columns = (slice(max(0, side.start - margin), min(length, side.stop + margin)) for side, length in zip(box, shape, strict=True))
    return rows, columns
