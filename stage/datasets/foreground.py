"""The object of an image: the pixels of the part itself, without the surface it lies on.

Images are (H, W, 3) uint8 RGB; foregrounds are (H, W) uint8 in {0, 1}, 1 = object. If no object stands out from a background,
as on cloth, the whole image is the object, and a note says why.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.filters import threshold_otsu, threshold_triangle

from stage.core.arrays import Mask
from stage.core.data_params import Foreground
from stage.datasets.components import components, largest_component

CHANNELS = {"red": 0, "green": 1, "blue": 2}
LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue; ITU-R BT.601, as Pillow's mode L
THRESHOLDS = {"otsu": threshold_otsu, "triangle": threshold_triangle}
COVERAGE = (0.01, 0.98)  # of the image; an object that covers less or more counts as not found
BORDER_WIDTH = 0.02  # of the image's side
BORDER_SHARE = 0.85  # of the border's pixels; if fewer are background, the image shows a texture


class Outline(NamedTuple):
    """An object's mask, the strategy that found it, and the reason if the whole image was taken.

    The strategy of a whole image is `none`; its note is empty if no object was searched for.
    """

    mask: Mask
    strategy: str
    note: str = ""


def foreground(image: NDArray[np.uint8], params: Foreground) -> Outline:
    """The object of a prepared image, by threshold unless the strategy is `none`. The channel must be named: `channels` resolves `auto`."""
    if params.strategy == "none":
        return whole_image(image.shape[:2])
    values = channel(image, params.channel)
    if values.min() == values.max():
        return whole_image(values.shape, f"its {params.channel} is {values.min()} everywhere")
    bright = values > (THRESHOLDS[params.threshold](values) if isinstance(params.threshold, str) else params.threshold)
    frame = _border(values.shape)
    is_bright = bright[frame].mean() < 0.5 if params.object_is == "auto" else params.object_is == "bright"
    raw = bright == is_bright
    mask = cleaned(raw, params)
    # Raw pixels reveal a texture whose grains split evenly at the threshold; cleaned pixels, one whose grains have merged.
    background = 1 - max(raw[frame].mean(), mask[frame].mean())
    return (
        checked(mask, "threshold")
        if background >= BORDER_SHARE
        else whole_image(mask.shape, f"{background:.0%} of its border is background")
    )


def checked(mask: NDArray[np.bool_] | Mask, strategy: str) -> Outline:
    """`mask` as the object, or the whole image if the mask covers under 1 % or over 98 % of it."""
    low, high = COVERAGE
    if not low <= mask.mean() <= high:
        return whole_image(mask.shape, f"an object would cover {mask.mean():.1%} of it")
    return Outline(mask.astype(np.uint8), strategy)


def whole_image(shape: tuple[int, ...], reason: str = "") -> Outline:
    """The whole image as the object; the note gives the `reason`."""
    return Outline(np.ones(shape, np.uint8), "none", f"whole image: {reason}" if reason else "")


def channel(image: NDArray[np.uint8], name: str) -> NDArray[np.uint8]:
    """One value per pixel, (H, W) uint8: a colour, the luminance, or the saturation (1 - smallest / largest colour, scaled to 255)."""
    if name in CHANNELS:
        return image[..., CHANNELS[name]]
    if name == "grey":
        return np.rint(image @ LUMA).astype(np.uint8)
    largest, smallest = image.max(axis=2).astype(np.float64), image.min(axis=2)
    return np.rint(255 * (largest - smallest) / np.maximum(largest, 1)).astype(np.uint8)


def _border(shape: tuple[int, ...]) -> NDArray[np.bool_]:
    width = max(1, round(BORDER_WIDTH * min(shape)))
    frame = np.ones(shape, bool)
    frame[width:-width, width:-width] = False
    return frame


def cleaned(mask: NDArray[np.bool_], params: Foreground) -> NDArray[np.bool_]:
    """The mask (H, W) without specks and gaps, its largest part alone, its holes filled, each as `params` says."""
    # Edge padding, so that an object that the image cuts off is not eroded at the cut.
    reach = params.opening + params.closing
    found = np.pad(mask, reach, mode="edge")
    found = _dilated(_eroded(found, params.opening), params.opening)
    found = _eroded(_dilated(found, params.closing), params.closing)
    found = found[reach : reach + mask.shape[0], reach : reach + mask.shape[1]]
    if params.largest:
        labels = components(found)
        found = labels == largest_component(labels) if found.any() else found
    return np.asarray(ndimage.binary_fill_holes(found), bool) if params.fill_holes else found


def _eroded(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """The pixels that are farther than `radius` px from any pixel outside the mask; beyond the image, all is outside.

    Computed from distances, because the time of SciPy's erosion grows with the square of the radius.
    """
    distances = ndimage.distance_transform_edt(np.pad(mask, 1))
    return np.asarray(distances, np.float64)[1:-1, 1:-1] > radius


def _dilated(mask: NDArray[np.bool_], radius: int) -> NDArray[np.bool_]:
    """The pixels that are at most `radius` px from the mask."""
    if not mask.any():
        return mask
    return np.asarray(ndimage.distance_transform_edt(~mask), np.float64) <= radius
