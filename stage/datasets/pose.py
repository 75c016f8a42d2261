"""The pose of a part in its photograph: where it lies, along which axis, and how large. Not in the paper.

H, W image size, E edge of a picture in part coordinates. Images are (H, W, 3) uint8, parts (H, W) uint8 in {0, 1}, 1 = object. Parts are
assumed undistorted: in a photograph that was not square before `prepare`, a turned part has another outline.
"""

import math
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from stage.core.arrays import Pixels

ELONGATED = 1.25  # ratio of the standard deviations along the two axes; under it, as of a disc or a square, the axis is chance
SPAN = 5.0  # standard deviations along the axis that a picture in part coordinates shows; a bar is 3.5 of them long, a disc 4
EDGE = 32  # px; enough to tell a head from a tip


class Pose(NamedTuple):
    """Of a part: its centroid and the standard deviation of its pixels along its axis, px; the axis' direction, rad.

    The direction is from x (right) to y (down), towards the longer tail of the part (third moment). It is None where the part has no clear axis.
    """

    y: float
    x: float
    size: float
    direction: float | None


def pose_of(part: Pixels) -> Pose | None:
    """The pose of a part, by the moments of its pixels; None if the part is empty, one pixel, or the whole image."""
    y, x = np.nonzero(part)
    if not 0 < len(y) < part.size:
        return None
    places = np.stack([x, y], axis=1).astype(np.float64)
    centre = places.mean(axis=0)
    offsets = places - centre
    (smaller, larger), axes = np.linalg.eigh(offsets.T @ offsets / len(offsets))
    if not larger:  # one pixel
        return None
    along = axes[:, 1]
    if larger < ELONGATED**2 * smaller:
        return Pose(float(centre[1]), float(centre[0]), math.sqrt(larger), None)
    tail = along if ((offsets @ along) ** 3).sum() >= 0 else -along
    return Pose(float(centre[1]), float(centre[0]), math.sqrt(larger), math.atan2(tail[1], tail[0]))


def reversed_pose(pose: Pose) -> Pose:
    """The same axis in the other direction."""
    return pose if pose.direction is None else pose._replace(direction=math.remainder(pose.direction + math.pi, 2 * math.pi))


def in_part_coordinates(pixels: Pixels, pose: Pose, edge: int = EDGE) -> Pixels:
    """An image (H, W, 3) or a mask (H, W) of 0 and 255 as the part sees it, (E, E, ...): the centroid in the middle, the axis to the right.

    The picture is SPAN standard deviations wide, and each of its pixels a mean over its own area. Beyond an image its border pixels are repeated, beyond
    a mask is 0. Without a direction nothing is turned.
    """
    scale, angle = SPAN * pose.size / edge, pose.direction or 0.0
    turned = scale * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    middle = np.full(2, (edge - 1) / 2)
    matrix = np.column_stack([turned, np.array([pose.x, pose.y]) - turned @ middle])
    smooth = cv2.blur(pixels, (round(scale),) * 2) if scale >= 2 else pixels
    border = cv2.BORDER_REPLICATE if pixels.ndim == 3 else cv2.BORDER_CONSTANT
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return np.asarray(cv2.warpAffine(smooth, matrix, (edge, edge), flags=flags, borderMode=border), np.uint8)


def is_reversed(one: Pixels, other: Pixels, bare: NDArray[np.bool_]) -> bool:
    """Whether a picture in part coordinates (E, E, C) is more like another one after half a turn, over the cells (E, E) that are bare."""
    plain, turned = (((one.astype(np.float64) - each)[bare] ** 2).sum() for each in (other, other[::-1, ::-1]))
    return bool(turned < plain)
