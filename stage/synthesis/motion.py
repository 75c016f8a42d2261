"""How a mask and its defect's pixels are turned, scaled and moved within a photograph, by what a plan row says.

H, W image size. Masks are (H, W) uint8 in {0, 1}, 1 = defect. A motion is an affine matrix (2, 3) from the old place (x, y) to the new one.
"""

import json
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from stage.core.arrays import Mask
from stage.datasets.components import bounding_box
from stage.synthesis.rows import PlanRow

Matrix = NDArray[np.float64]


class Turn(NamedTuple):
    """Rotation about the defect's centre, degrees counter-clockwise, and the factor on its size."""

    rotation: float
    scale: float


def turn_of(row: PlanRow) -> Turn | None:
    """The `rotation` and `scale` among a row's choices; None if it has none."""
    choices = json.loads(row.choices or "{}")
    return Turn(choices["rotation"], choices["scale"]) if "rotation" in choices else None


def motion(row: PlanRow, mask: Mask) -> Matrix:
    """The motion of a row, whose choices have a rotation and a scale, for a mask that is mirrored already."""
    turned = turn_of(row)
    assert turned is not None, "the planner that writes no rotation moves by whole pixels"
    y, x = centre_of(mask)
    matrix = np.asarray(cv2.getRotationMatrix2D((float(x), float(y)), *turned), np.float64)
    matrix[:, 2] += _kept_inside(mask, matrix, row.mask_shift_y, row.mask_shift_x)
    return matrix


def moved_by(mask: Mask, matrix: Matrix) -> Mask:
    """A mask after a motion: a pixel is defect if at least half of it is covered; if none is, the most covered ones are. Empty only if it leaves the image."""
    share = cv2.warpAffine(mask.astype(np.float32), matrix, mask.shape[::-1], flags=cv2.INTER_LINEAR)
    return ((share >= min(0.5, float(share.max()))) & (share > 0)).astype(np.uint8)


def centre_of(mask: Mask) -> NDArray[np.int64]:
    """Row and column of the middle of a mask's bounding box."""
    rows, columns = bounding_box(mask)
    return np.array([(rows.start + rows.stop - 1) // 2, (columns.start + columns.stop - 1) // 2])


def _kept_inside(mask: Mask, matrix: Matrix, y: int, x: int) -> Matrix:
    """The move (x, y), shortened where a pixel of the turned and scaled mask would leave the image."""
    corners = cv2.convexHull(np.argwhere(mask)[:, ::-1].astype(np.int32))[:, 0]
    reached = np.column_stack([corners, np.ones(len(corners))]) @ matrix.T
    lowest, highest = -reached.min(0), np.array(mask.shape[::-1]) - 1 - reached.max(0)
    return np.clip([x, y], np.minimum(lowest, highest), np.maximum(lowest, highest))
