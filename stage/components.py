"""The parts of a mask: pixels that touch, at a side or at a corner."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

EIGHT_NEIGHBOURS = np.ones((3, 3), dtype=bool)


def components(mask: np.ndarray) -> NDArray[np.int32]:
    """The 8-connected components of a mask (H, W), numbered 1, 2, ... by their first pixel; 0 outside."""
    labels = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, structure=EIGHT_NEIGHBOURS, output=labels)
    return labels
