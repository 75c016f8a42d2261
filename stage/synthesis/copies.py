"""Finds the training defect that a sample's defect is most like, under every turn and mirror.

H, W image size, N training defects, E edge of a patch. Images are (H, W, 3) uint8, masks (H, W) uint8 in {0, 1}, 1 = defect.
"""

from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stage.datasets.components import components, largest_component
from stage.datasets.windows import TURNS, turn

EDGE = 24  # px; a defect's bounding box is resized to this, so that its size and place do not count
# (N, E, E, 3): the colours less their mean over the defect, 0 outside it, of length 1; 0 for a flat defect.
PatchArray = NDArray[np.float32]


class Nearest(NamedTuple):
    """The number of the training defect that is most like, and its distance: one minus the correlation of the colours, 0 to 2."""

    number: int
    distance: float


def patch(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> PatchArray:
    """The largest defect of an image as a patch, (E, E, 3). The same outline around other pixels is no copy."""
    labels = components(mask)
    if not labels.any():
        return np.zeros((EDGE, EDGE, 3), np.float32)
    number = largest_component(labels)
    box = ndimage.find_objects(labels)[number - 1]
    inside = (labels[box] == number).astype(np.float32)[..., None]
    colours = image[box].astype(np.float32)
    colours = (colours - (colours * inside).sum((0, 1)) / inside.sum()) * inside
    how = cv2.INTER_AREA if max(inside.shape) > EDGE else cv2.INTER_LINEAR
    small = np.asarray(cv2.resize(colours, (EDGE, EDGE), interpolation=how), np.float32)
    return small / max(float(np.linalg.norm(small)), 1e-3)


def nearest(one: PatchArray, among: PatchArray) -> Nearest:
    """The patch among (N, E, E, 3), N > 0, that `one` (E, E, 3) is most like in any of eight positions."""
    turned = np.stack([turn(one, k).ravel() for k in range(TURNS)])
    alike = (among.reshape(len(among), -1) @ turned.T).max(1)
    return Nearest(int(alike.argmax()), round(1 - float(alike.max()), 3))
