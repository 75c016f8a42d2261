"""Masks of new shapes made from real ones: warped, or resampled between several. Not in the paper.

H, W image size, h w size of the smallest box around a shape. Masks are uint8 in {0, 1}, 1 = defect.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from stage.core.arrays import Mask, Random, Values
from stage.datasets.components import bounding_box
from stage.datasets.pose import Pose, pose_of
from stage.synthesis.strokes import lowest

SMOOTHNESS = 0.2  # of the mask's larger side; standard deviation of the smoothing of displacements
STRENGTH = (0.05, 0.12)  # of the mask's larger side; root mean square of the displacements
SMOOTHEST = 2.0  # px; least smoothing of a small mask's displacements
ROUNDING = 0.25  # px outside the displaced border that still count as defect, so that thin lines are hardly torn
THIN = 1.5  # px; lines of one or two pixels are nowhere deeper
MOST = 3  # real masks that a new shape is resampled from


def warped(mask: Mask, random: Random) -> Mask:
    """The box around a mask (H, W) after an elastic deformation, smoothed noise as displacements (Simard et al., 2003).

    The distance to the mask's border is displaced, not the binary mask. A part of one pixel may vanish, but not the whole mask.
    """
    rows, columns = bounding_box(mask)
    extent = max(rows.stop - rows.start, columns.stop - columns.start)
    margin = math.ceil(extent / 2) + 2
    distances = _border_distance(np.pad(mask[rows, columns], margin))
    strength = max(0.7, random.uniform(*STRENGTH) * extent)
    moves = [_smooth_noise(distances.shape, max(SMOOTHEST, SMOOTHNESS * extent), random) * strength for _ in range(2)]
    places = np.indices(distances.shape) + np.stack(moves)
    return lowest(_sampled(distances, places), 1, ROUNDING)


def resampled(masks: Sequence[Mask], area: int, random: Random) -> Mask:
    """The box around a shape of `area` px between two or more masks (H, W), in the direction of the first one.

    The masks are aligned in centre, size and axis by their moments. The shape is the deepest pixels of the mean of their signed distances to
    the border, with random weights; a few more for a thin line.
    """
    poses = [pose_or_pixel(mask) for mask in masks]
    size = poses[0].size * math.sqrt(area / masks[0].sum())
    weights = random.dirichlet(np.ones(len(masks)))
    reach = math.ceil(size * max(_reach(*one) for one in zip(masks, poses, strict=True))) + 2
    offsets = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float64) / size
    distances = [_border_distance(mask) for mask in masks]
    places = [_places(pose, poses[0], offsets) for pose in poses]
    shares = weights / [pose.size for pose in poses]
    depths = sum((share * _sampled(*one) for share, *one in zip(shares, distances, places, strict=True)), np.zeros(offsets.shape[1:]))
    return lowest(depths, area, ROUNDING * shares.sum() if all(one.min() > -THIN for one in distances) else -np.inf)


def pose_or_pixel(mask: Mask) -> Pose:
    """The pose of a mask; that of a single pixel, or of a mask that is the whole image, has no direction."""
    rows, columns = np.nonzero(mask)
    return pose_of(mask) or Pose(float(rows.mean()), float(columns.mean()), max(1.0, float(rows.std())), None)


def _places(pose: Pose, first: Pose, offsets: Values) -> Values:
    """Places in a mask, (2, h, w) in px, of offsets (2, h, w) from its centre, in units of its size and along the first mask's axis."""
    angle = 0.0 if pose.direction is None or first.direction is None else pose.direction - first.direction
    sine, cosine = math.sin(angle), math.cos(angle)
    y, x = offsets * pose.size
    return np.stack([pose.y + cosine * y + sine * x, pose.x + cosine * x - sine * y])


def _reach(mask: Mask, pose: Pose) -> float:
    """How far a mask's pixels reach from its centre, in units of its size."""
    rows, columns = np.nonzero(mask)
    return float(np.hypot(rows - pose.y, columns - pose.x).max() / pose.size)


def _border_distance(mask: Mask) -> Values:
    """How far each pixel is outside the mask, px; negative inside. Beyond the image is outside."""
    framed = np.pad(mask, 1)
    outside, inside = (np.asarray(ndimage.distance_transform_edt(one), np.float64)[1:-1, 1:-1] for one in (framed == 0, framed))
    return outside - inside


def _sampled(distances: Values, places: Values) -> Values:
    """The distances at places (2, h, w) in px; far outside beyond their image."""
    return np.asarray(ndimage.map_coordinates(distances, places, order=1, mode="constant", cval=distances.max()), np.float64)


def _smooth_noise(shape: tuple[int, ...], deviation: float, random: Random) -> Values:
    """Noise (h, w) after a Gaussian filter, with a root mean square of 1."""
    noise: Values = np.asarray(ndimage.gaussian_filter(random.standard_normal(shape), deviation))
    return noise / np.sqrt((noise**2).mean())
