"""Carries a defect's mask from its photograph's part to a background's: to the same place on the part, turned and scaled with it.

H, W image size. Masks and parts are (H, W) uint8 in {0, 1}; 1 = defect, 1 = object.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stage.datasets.pose import Pose, in_part_coordinates, is_reversed, pose_of, reversed_pose
from stage.datasets.windows import turn
from stage.synthesis.motion import Turn, centre_of
from stage.synthesis.rows import NamedMask
from stage.synthesis.source import Source

ALIKE = 1.25  # largest ratio of the sizes of two parts of one product; beyond it, one of the two was not found whole
ARRIVED = 0.5  # of a mask's area; a mask that loses more off the part or the image is rejected
POSES = 2**14  # entries per cache, of some kilobytes each


class Carry(NamedTuple):
    """How a defect gets from its part to another: how it is turned, where its centre (row, column) goes, and the share of it off its part.

    `axis` is the background's axis as a unit vector (row, column); None where a part has no clear axis.
    """

    turned: Turn
    centre: NDArray[np.float64]
    beyond: float
    axis: NDArray[np.float64] | None


def has_arrived(mask: NDArray[np.uint8], own: NDArray[np.uint8], carry: Carry, part: NDArray[np.uint8]) -> bool:
    """Whether a carried mask lies on the part with at least half of its scaled area; `own` is the mask before it was carried."""
    return bool((mask * part).any() and mask.sum() >= ARRIVED * carry.turned.scale**2 * own.sum())


class PosedPart(NamedTuple):
    """A photograph's pose, its colours and outline (E, E, 4) in part coordinates, and the cells that no defect touches.

    `centre` is the defect's, if there is one.
    """

    pose: Pose
    centre: NDArray[np.int64]
    picture: NDArray[np.uint8]
    bare: NDArray[np.bool_]


class Parts:
    """The poses of a category's photographs. A photograph whose object is unknown, or the whole image, has none."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.normal = lru_cache(POSES)(self._normal)
        self.defective = lru_cache(POSES)(self._defective)
        self.beyond = lru_cache(POSES)(self._beyond)

    def carried(self, mask: NamedMask, turned: int, background_sha256: str) -> Carry | None:
        """How to carry a mask, after `turned` of `windows.turn`, to a background; None unless both parts are known and of like size.

        The axes are aligned in the direction in which photographs and outlines are more alike outside the defect. If one of the
        parts has no clear axis, the defect keeps its direction, and its place relative to the centroid.
        """
        here, there = self.defective(mask, turned), self.normal(background_sha256)
        if here is None or there is None or not 1 / ALIKE <= there.pose.size / here.pose.size <= ALIKE:
            return None
        pose = reversed_pose(there.pose) if is_reversed(here.picture, there.picture, here.bare) else there.pose
        scale, angle, axis = pose.size / here.pose.size, 0.0, None
        if here.pose.direction is not None and pose.direction is not None:
            angle = pose.direction - here.pose.direction
            axis = np.array([math.sin(pose.direction), math.cos(pose.direction)])
        y, x = here.centre - (here.pose.y, here.pose.x)
        landed = (pose.y, pose.x) + scale * np.array([x * math.sin(angle) + y * math.cos(angle), x * math.cos(angle) - y * math.sin(angle)])
        rotation = round(-math.degrees(math.remainder(angle, 2 * math.pi)), 3)  # OpenCV counts counter-clockwise
        return Carry(Turn(rotation, round(scale, 4)), landed, self.beyond(mask), axis)

    def _normal(self, sha256: str) -> PosedPart | None:
        image = self.source.backgrounds[sha256].image
        return _seen(image, np.zeros(image.shape[:2], np.uint8), self.source.foregrounds.get(sha256))

    def _defective(self, named: NamedMask, turned: int) -> PosedPart | None:
        part = self.source.foregrounds.get(named)
        if part is None:
            return None
        image, mask = self.source.masks[named]
        return _seen(turn(image, turned), turn(mask, turned), turn(part, turned))

    def _beyond(self, named: NamedMask) -> float:
        mask = self.source.masks[named].mask
        return round(1 - float((mask * self.source.foregrounds[named]).sum() / mask.sum()), 4)


def _seen(image: NDArray[np.uint8], mask: NDArray[np.uint8], part: NDArray[np.uint8] | None) -> PosedPart | None:
    pose = None if part is None else pose_of(part)
    if part is None or pose is None:
        return None
    outline, defect = (in_part_coordinates(one * np.uint8(255), pose) for one in (part, mask))
    return PosedPart(pose, centre_of(mask), np.dstack([in_part_coordinates(image, pose), outline]), defect == 0)
