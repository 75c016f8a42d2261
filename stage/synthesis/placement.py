"""Places masks on the object of their photograph. Not in the paper, which names the lack as a limitation (IV-D).

H, W image size. Masks and objects are (H, W) uint8 in {0, 1}; 1 = defect, 1 = object.
"""

import json
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.measure import block_reduce

from stage.core.arrays import Mask
from stage.core.errors import CorruptFileError
from stage.core.synthesis_params import Perlin
from stage.datasets.components import bounding_box, components
from stage.datasets.images import pixel_digest
from stage.synthesis.motion import motion, moved_by, turn_of
from stage.synthesis.perlin import perlin_mask
from stage.synthesis.rows import PlanRow
from stage.synthesis.shapes import shape_of
from stage.synthesis.source import Source
from stage.synthesis.strokes import DRAWN

ON_OBJECT = 0.5  # of a mask's area; with this much on the object it stays where it is: a broken edge reaches beyond the object
GRID = 512  # px; larger images are searched in steps of several pixels
TRIES = 50  # draws for a Perlin mask that meets the object
SPOT = 1 / 16  # of the image's side; radius of the round defect that is drawn if no draw meets the object


class Shift(NamedTuple):
    """How far a mask is moved, px: down and to the right."""

    y: int
    x: int


def sample_mask(row: PlanRow, source: Source, perlin: Perlin) -> Mask:
    """The mask of a row whose mask `MaskedPlanner` or `paste` planned, always the same. Raises CorruptFileError if it is not the planned one.

    CutPaste's own cuts, and the noise of DRAEM and GLASS, which is `perlin` in their rows too, are drawn by these methods.
    """
    mask = row_mask(row, source, perlin)
    check_mask(mask, row)
    return mask


def check_mask(mask: Mask, row: PlanRow) -> None:
    """Raise CorruptFileError if a mask is not the one that was planned."""
    if (found := pixel_digest(mask)) != row.mask_digest:
        raise CorruptFileError(
            f"Expected the planned mask {row.mask_digest[:12]} of {row.sample_id}, found {found[:12]}: its sources or parameters have "
            "changed since. Run `dvc repro synthesize`."
        )


def row_mask(row: PlanRow, source: Source, perlin: Perlin) -> Mask:
    """The mask that a row's choices lead to; the row's area and digest need not be known yet."""
    if row.mask_kind == "perlin":
        return perlin_mask_on(part_of(row, source), perlin, np.random.default_rng(row.mask_seed))
    return file_mask(row, source)


def file_mask(row: PlanRow, source: Source, turned: Mask | None = None) -> Mask:
    """The mask of a row that is not noise: turned and scaled if its choices say so, and moved by its shift.

    `turned`: the result of `shape_of`, if the caller has it.
    """
    mask = shape_of(row, source) if turned is None else turned
    if turn_of(row) is not None:
        label = moved_by(mask, motion(row, mask))
        return label if row.foreground == "none" else trimmed(label, part_of(row, source), beyond_of(row))
    if row.foreground == "none" or stays(row, mask, part := part_of(row, source)):
        return mask
    return trimmed(moved(mask, Shift(row.mask_shift_y, row.mask_shift_x)), part)


def beyond_of(row: PlanRow) -> float:
    """The largest share of a row's mask that may lie off the object: the share of the real mask off its own object; 0 unless it is carried."""
    return float(json.loads(row.choices or "{}").get("beyond", 0.0))


def part_of(row: PlanRow, source: Source) -> Mask:
    """The object on the row's background; the whole image where its foreground is `none`."""
    part = source.foregrounds[row.background_sha256]
    return np.ones_like(part) if row.foreground == "none" else part


def perlin_mask_on(part: Mask, perlin: Perlin, random: np.random.Generator) -> Mask:
    """A Perlin mask on an object, never empty: the first of 50 draws that meets it in few enough components, else a round spot.

    The noise fills the object's bounding box: noise over a whole large photograph would mostly miss a small object.
    """
    box = bounding_box(part)
    mask = np.zeros_like(part)
    height, width = part[box].shape
    for _ in range(TRIES):
        mask[box] = perlin_mask(height, width, perlin, random) * part[box]
        if 0 < components(mask[box]).max() <= perlin.max_components:
            return mask
    return spot(part, random)


def spot(part: Mask, random: np.random.Generator) -> Mask:
    """A round defect somewhere on an object, 1/16 of the side in radius; trimmed to the object."""
    centres = np.argwhere(part)
    y, x = centres[random.integers(len(centres))]
    rows, columns = np.ogrid[: part.shape[0], : part.shape[1]]
    near = np.hypot(rows - y, columns - x) <= max(1, min(part.shape) * SPOT)
    labels = components(near & (part > 0))
    return (labels == labels[y, x]).astype(np.uint8)


class PlacementGrid(NamedTuple):
    """Where a mask may go: the good places on a grid of `step` px, packed as bits, and the place where the mask is now."""

    good: NDArray[np.uint8]
    width: int
    step: int
    here: Shift

    def draw(self, mask: Mask, random: np.random.Generator) -> Shift:
        """A move to one of the good places, all equally likely; no move if there is none."""
        places = np.flatnonzero(np.unpackbits(self.good))
        if not len(places):
            return Shift(0, 0)
        top, left = divmod(int(places[random.integers(len(places))]), self.width)
        return _inside(mask, (top - self.here.y) * self.step, (left - self.here.x) * self.step)


def places_on(mask: Mask, part: Mask) -> PlacementGrid:
    """The places at which a mask overlaps an object most."""
    from scipy.signal import fftconvolve  # here, because it takes a second to load, and rendering does without

    step = -(-max(mask.shape) // GRID)
    # A block is object if all of its pixels are, and defect if any is: a mask that fits in blocks fits in pixels.
    coarse_mask, coarse_part = block_reduce(mask, step, np.max), block_reduce(part, step, np.min)
    rows, columns = bounding_box(coarse_mask)
    small = coarse_mask[rows, columns].astype(np.float64)
    overlaps = np.rint(fftconvolve(coarse_part.astype(np.float64), small[::-1, ::-1], mode="valid"))
    if not overlaps.max():  # no block is wholly object, on a wire for example: count shares
        coarse_part = block_reduce(part.astype(np.float64), step, np.mean)
        overlaps = fftconvolve(coarse_part, small[::-1, ::-1], mode="valid").round(6)
    good = np.packbits((overlaps == overlaps.max()) & (overlaps > 0))
    return PlacementGrid(good, overlaps.shape[1], step, Shift(rows.start, columns.start))


def _inside(mask: Mask, y: int, x: int) -> Shift:
    rows, columns = bounding_box(mask)
    return Shift(
        int(np.clip(y, -rows.start, mask.shape[0] - rows.stop)),
        int(np.clip(x, -columns.start, mask.shape[1] - columns.stop)),
    )


def moved(mask: Mask, shift: Shift) -> Mask:
    """`mask` moved within its image; no part of it leaves."""
    return np.roll(mask, shift, axis=(0, 1))


def trimmed(mask: Mask, part: Mask, beyond: float = 0.0) -> Mask:
    """`mask` without its pixels off the object, except the nearest ones up to a share of `beyond`; the whole mask if none lies on the object."""
    box = bounding_box(mask)
    own, on_object = mask[box], mask[box] * part[box]
    if not on_object.any() or beyond >= 1:
        return mask
    outside = np.flatnonzero(own > on_object)
    kept = int(on_object.sum() * beyond / (1 - beyond))
    distances = np.asarray(ndimage.distance_transform_edt(part[box] == 0), np.float64).ravel()[outside]
    on_object.ravel()[outside[distances.argsort(kind="stable")[:kept]]] = 1
    result = np.zeros_like(mask)
    result[box] = on_object
    return result


def stays(row: PlanRow, mask: Mask, part: Mask) -> bool:
    """Whether a row's mask may stay where it is: a drawn one if it lies wholly on the object, any other if at least half of it does."""
    return bool((mask <= part).all()) if row.mask_kind in DRAWN else is_on(mask, part)


def is_on(mask: Mask, part: Mask) -> bool:
    """Whether at least half of a mask lies on an object."""
    return bool((mask * part).sum() >= ON_OBJECT * mask.sum())
