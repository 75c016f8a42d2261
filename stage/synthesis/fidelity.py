"""How a defect differs from its surroundings, in a few numbers that need no background, so that real and synthetic defects can be compared.

H, W image size. Images are (H, W, 3) uint8, masks (H, W) uint8 in {0, 1}. Values are grey levels of 255. A pixel's distance from the
mask's border is that to the nearest pixel on the other side, at least 1 px; the image's own edge is no border of a defect.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from stage.core.arrays import Pixels, Values
from stage.datasets.components import components, largest_component
from stage.datasets.foreground import LUMA

EDGE = 2  # px; a defect's pixels this near to its border are its edge, the others its core
SEAM = 2  # px around any defect that belong to no ring: a pasted seam is soft there, and a label may be tight
RING = 6  # px; how far the surroundings reach
REACH = 6  # px of the profile on either side of the border
DISTANCES = (*range(-REACH, 0), *range(1, REACH + 1))  # negative inside
MEASURES = ("contrast_edge", "contrast_core", "texture", "grain", "red", "green", "blue")
SHAPE = ("area", "elongation", "parts")
STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))  # the directions of second differences
Region = NDArray[np.bool_]


def measured(image: Pixels, mask: Pixels) -> Values:
    """MEASURES and the profile at DISTANCES of an image's defects, (19,): each defect's own, averaged by their pixels.

    NaN where no defect has the measure: a core if all are at most 2 px deep, grain if no three pixels lie in a row, contrast and profile
    if all surroundings are labelled, and everything for an empty mask.

    - `contrast_*`: the least mean change of grey level that turns the ring's histogram into the edge's or the core's (Wasserstein-1, mean
      of the channels). It measures brighter and darker defects, and a bright line beside a dark one.
    - `texture`: standard deviation of the luminance inside.
    - `grain`: root of the mean square of second differences of the luminance along rows, columns and diagonals, over the root of six:
      the standard deviation of white noise. The three pixels all lie in the defect, so its border adds nothing, and no slope does.
    - the profile: the absolute difference of the mean luminance at a distance to the ring's.
    """
    labels = components(mask)
    regions = [_around(box, mask.shape) for box in ndimage.find_objects(labels)]
    if not regions:
        return np.full(len(MEASURES) + len(DISTANCES), np.nan)
    found = [_of_defect(image[region], labels[region] == number, mask[region] > 0) for number, region in enumerate(regions, 1)]
    weights = np.isfinite(found) * np.bincount(labels.ravel())[1:, None]
    sums = (np.nan_to_num(found) * weights).sum(0)
    return np.divide(sums, weights.sum(0), out=np.full_like(sums, np.nan), where=weights.any(0))


def shape_of_mask(mask: Pixels) -> Values:
    """SHAPE of a mask that is not empty, (3,): its share of the image, the ratio of the principal axes of its largest part, and its parts.

    The axes are the standard deviations of the part's pixels, taken as squares: one pixel has a ratio of 1, and n in a row one of n.
    """
    labels = components(mask)
    places = np.argwhere(labels == largest_component(labels)).astype(np.float64)
    smaller, larger = np.linalg.eigvalsh(np.atleast_2d(np.cov(places.T, bias=True)) + np.eye(2) / 12)
    return np.array([mask.mean(), np.sqrt(larger / smaller), labels.max()])


def _of_defect(pixels: Pixels, defect: Region, labelled: Region) -> Values:
    inside, outside = _distance(defect), _distance(~defect)
    light: Values = pixels.astype(np.float64) @ LUMA
    edge, core = defect & (inside <= EDGE), defect & (inside > EDGE)
    ring = (outside <= RING) & (_distance(~labelled) > SEAM)
    profile = [_mean(light[part]) for part in _bands(inside, outside, defect, labelled)]
    return np.array(
        [
            _histogram_distance(pixels[edge], pixels[ring]),
            _histogram_distance(pixels[core], pixels[ring]),
            light[defect].std(),
            _grain(light, defect),
            *pixels[defect].mean(axis=0),
            *np.abs(np.array(profile) - _mean(light[ring])),
        ]
    )


def _bands(inside: Values, outside: Values, defect: Region, labelled: Region) -> list[Region]:
    """The pixels at each of DISTANCES; those of other defects are in none."""
    signed = np.where(defect, -np.ceil(inside), np.where(labelled, np.inf, np.ceil(outside)))
    return [signed == distance for distance in DISTANCES]


def _histogram_distance(some: Pixels, others: Pixels) -> float:
    if not (len(some) and len(others)):
        return np.nan
    one, other = (np.stack([np.bincount(part[:, c], minlength=256) / len(part) for c in range(3)]) for part in (some, others))
    return float(np.abs(np.cumsum(one - other, axis=1)).sum(axis=1).mean())


def _grain(light: Values, defect: Region) -> float:
    light, defect = np.pad(light, 1), np.pad(defect, 1)  # so that no pixel meets one rolled in from the other side
    squares: list[Values] = []
    for y, x in STEPS:
        (before, one), (after, other) = ((np.roll(light, step, (0, 1)), np.roll(defect, step, (0, 1))) for step in ((y, x), (-y, -x)))
        squares.append(((before + after - 2 * light) ** 2)[defect & one & other])
    return float(np.sqrt(_mean(np.concatenate(squares)) / 6))


def _distance(region: Region) -> Values:
    """How far each pixel of a region is from the nearest one outside it, and 0 outside; infinite where there is no outside."""
    if region.all():
        return np.full(region.shape, np.inf)
    return np.asarray(ndimage.distance_transform_edt(region))


def _mean(values: Values) -> float:
    return float(values.mean()) if values.size else np.nan


def _around(box: tuple[slice, slice], shape: tuple[int, ...]) -> tuple[slice, slice]:
    """A defect's box, enlarged by the reach of its ring and its profile."""
    rows, columns = (
        slice(max(0, side.start - RING - SEAM), min(length, side.stop + RING + SEAM)) for side, length in zip(box, shape, strict=True)
    )
    return rows, columns
