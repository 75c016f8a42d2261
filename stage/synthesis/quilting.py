"""Image quilting (Efros and Freeman, SIGGRAPH 2001): a texture recreated from patches of a sample, joined along minimum-error cuts.

As in their texture transfer, patches are also chosen by a guide: here the distance to the border, so that a defect keeps its rim.
H, W image size, h w size of a region's bounding box, n patches of p px. Images are (H, W, 3) uint8, masks (H, W) uint8 in {0, 1}.
"""

from typing import NamedTuple, Self

import cv2
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from stage.core.arrays import Mask, Random
from stage.core.synthesis_params import Quilt
from stage.datasets.components import bounding_box
from stage.datasets.pairs import Pair

SMALLEST = 4  # px; side of the patches of a scratch, whose pixels are repeated around it
Floats = NDArray[np.float32]


class Patches(NamedTuple):
    """Squares of a defect (n, p, p, 4): its colours, and the weighted distance to its border."""

    values: Floats

    @property
    def side(self) -> int:
        """Side of a patch, px."""
        return self.values.shape[1]

    @classmethod
    def of(cls, defect: Pair, params: Quilt, random: Random) -> Self:
        """Up to `params.candidates` squares around pixels of the defect. Outside the defect, its nearest pixel is repeated, so that no normal pixel gets in."""
        depth = inner_distance(defect.mask)
        side = int(np.clip(2 * depth.max(), SMALLEST, params.patch))
        mask = np.pad(defect.mask, side)
        rows, columns = (slice(part.start - side, part.stop + side) for part in bounding_box(mask))
        inside = mask[rows, columns]
        _, labels = cv2.distanceTransformWithLabels(1 - inside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
        nearest = np.asarray(labels, np.intp)
        pixels = np.zeros((nearest.max() + 1, 3), np.float32)
        pixels[nearest[inside > 0]] = defect.image[defect.mask > 0]
        guide = params.rim * np.minimum(np.pad(depth, side)[rows, columns], side)
        sample = np.concatenate([pixels[nearest], guide[..., None]], axis=2).astype(np.float32)
        corners = np.argwhere(inside) - side // 2
        chosen = corners[random.permutation(len(corners))[: params.candidates]]
        windows = np.moveaxis(sliding_window_view(sample, (side, side), axis=(0, 1)), 2, -1)
        return cls(np.ascontiguousarray(windows[chosen[:, 0], chosen[:, 1]]))


class _Errors:
    """The weighted squared differences of all patches from a canvas, by two products with matrices."""

    def __init__(self, patches: Patches) -> None:
        self.flat = patches.values.reshape(len(patches.values), -1).astype(np.float64)
        self.squares = self.flat**2

    def to(self, wanted: Floats, weights: Floats) -> NDArray[np.float64]:
        """The differences (n,) from a canvas by weights, (p, p, 4) each; at least 0, though rounding could give less for an exact fit."""
        flat, goal = weights.ravel().astype(np.float64), wanted.ravel().astype(np.float64)
        return np.maximum(self.squares @ flat - 2 * (self.flat @ (flat * goal)) + flat @ goal**2, 0.0)


def quilted(defect: Pair, region: Mask, params: Quilt, random: Random) -> NDArray[np.uint8]:
    """An image (H, W, 3) whose pixels in a region, not empty, are made from patches of a defect; 0 far from it."""
    patches = Patches.of(defect, params, random)
    errors, side, box = _Errors(patches), patches.side, bounding_box(region)
    height, width = region[box].shape
    edges = ((0, side), (0, side))  # the last patches reach beyond the box
    inside = np.pad(region[box], edges)
    canvas, filled = np.zeros((*inside.shape, 4), np.float32), np.zeros(inside.shape, bool)
    canvas[..., 3] = params.rim * np.minimum(np.pad(inner_distance(region)[box], edges), side)
    overlap = max(1, side // 3)
    for top in range(0, height, side - overlap):
        for left in range(0, width, side - overlap):
            place = (slice(top, top + side), slice(left, left + side))
            if inside[place].any():
                weights = np.repeat(filled[place][..., None], 4, axis=2).astype(np.float32)
                weights[..., 3] = inside[place]
                patch = patches.values[_chosen(errors.to(canvas[place], weights), params.tolerance, random)]
                _lay(patch, canvas[place], filled[place], overlap)
    image = np.zeros((*region.shape, 3), np.uint8)
    image[box] = np.clip(np.rint(canvas[:height, :width, :3]), 0, 255)
    return image


def inner_distance(mask: Mask) -> Floats:
    """The distance of each pixel of a mask from the nearest pixel outside it, px; the image's border does not count as outside."""
    if mask.all():
        return np.full(mask.shape, max(mask.shape), np.float32)
    return np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, 5), np.float32)


def _chosen(errors: NDArray[np.float64], tolerance: float, random: Random) -> int:
    """Any of the patches that fit almost as well as the best one."""
    good = np.flatnonzero(errors <= errors.min() * (1 + tolerance) + 1e-3)
    return int(good[random.integers(len(good))])


def _lay(patch: Floats, canvas: Floats, filled: NDArray[np.bool_], overlap: int) -> None:
    """Lay a patch on a canvas (p, p, 4) that is partly filled; both cuts begin at the overlaps with the patches above and to the left."""
    costs = ((patch - canvas)[..., :3] ** 2).sum(axis=2) * filled
    is_old = np.zeros_like(filled)
    if filled[:, 0].any():
        is_old |= _before_cut(costs[:, :overlap], filled.shape[1])
    if filled[0].any():
        is_old |= _before_cut(costs[:overlap].T, filled.shape[0]).T
    is_new = ~(is_old & filled)
    canvas[is_new, :3] = patch[is_new, :3]
    filled[...] = True


def _before_cut(costs: Floats, width: int) -> NDArray[np.bool_]:
    """The pixels (p, width) before the path of least cost from the first row to the last; `costs` (p, overlap)."""
    framed = np.full((len(costs), costs.shape[1] + 2), np.inf)
    total = framed[:, 1:-1]
    total[...] = costs
    for row in range(1, len(total)):
        above = framed[row - 1]
        total[row] += np.minimum(np.minimum(above[:-2], above[1:-1]), above[2:])
    path, column = np.zeros(len(total), np.int64), int(total[-1].argmin())
    for row in range(len(total) - 1, -1, -1):
        if row < len(total) - 1:
            first = max(0, column - 1)
            column = first + int(total[row, first : column + 2].argmin())
        path[row] = column
    return np.arange(width) < path[:, None]
