"""A real defect in another photograph: its pixels turned, scaled and moved as its mask is, and its colour matched to the surroundings.

H, W image size. Images are (H, W, 3) uint8, masks (H, W) uint8 in {0, 1}, 1 = defect.
"""

import cv2
import numpy as np

from stage.core.arrays import Pixels
from stage.datasets.components import dilated
from stage.datasets.pairs import Pair
from stage.datasets.windows import turn
from stage.synthesis.motion import motion
from stage.synthesis.placement import file_mask
from stage.synthesis.rows import PlanRow
from stage.synthesis.source import Source


def placed(row: PlanRow, source: Source, other: Pixels | None = None) -> Pair:
    """The photograph of the row's mask and the mask, both mirrored or turned, scaled about the defect's centre, and moved.

    `other`: a photograph that takes the defect's place.
    """
    image, mask = (turn(pixels, row.mask_turn) for pixels in source.masks[row.mask])
    moved = cv2.warpAffine(
        image if other is None else turn(other, row.mask_turn),
        motion(row, mask),
        mask.shape[::-1],
        flags=cv2.INTER_CUBIC,  # linear interpolation would lose a fifth of the defect's grain
        borderMode=cv2.BORDER_REFLECT_101,
    )
    return Pair(np.asarray(moved, np.uint8), file_mask(row, source, mask))


def colour_matched(defect: Pair, background: Pixels, ring: int) -> Pixels:
    """`defect.image` with its colour shifted by the median difference of the photographs in a ring of `ring` px around the mask.

    The median, because an edge of the part that lies one pixel off differs more than the light does.
    """
    around = (dilated(defect.mask, ring) > 0) & (defect.mask == 0)
    if not around.any():
        return defect.image
    difference = np.median(background[around].astype(np.float64) - defect.image[around], axis=0)
    return np.clip(np.rint(defect.image + difference), 0, 255).astype(np.uint8)
