"""Connected components, bounding box and dilation of a mask."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def components(mask: np.ndarray) -> NDArray[np.int32]:
    """The 8-connected components of a mask (H, W), numbered 1, 2, ... by their first pixel; 0 outside."""
    labels = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, structure=EIGHT_NEIGHBOURS, output=labels)
    return labels


def largest_component(labels: NDArray[np.int32]) -> int:
    """The number of the component with the most pixels, the first of equals; `labels` as `components` gives them, with at least one."""
    return int(np.bincount(labels.ravel())[1:].argmax()) + 1


def bounding_box(mask: NDArray[np.uint8]) -> tuple[slice, slice]:
    """Rows and columns of the smallest rectangle around a mask (H, W); the first pixel if the mask is empty."""
    rows, columns = (np.flatnonzero(mask.any(axis)) if mask.any() else np.zeros(1, np.int64) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def dilated(mask: NDArray[np.uint8], radius: int) -> NDArray[np.uint8]:
    """`mask` dilated by `radius` px, with diagonal neighbours at a distance of one."""
    if not radius:
        return mask
    grown: NDArray[np.uint8] = ndimage.maximum_filter(mask, 2 * radius + 1, mode="constant")  # pyright: ignore[reportAssignmentType]
    return grown
