"""Where CutPaste cuts a part of a photograph, and where it pastes it: rectangles, turned or not, and shifts of given masks.

H, W image size. Masks are (H, W) uint8 in {0, 1}: the pasted pixels, or the object, `part`.
"""

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from stage.core.arrays import Box, Mask, Pixels, Random
from stage.core.synthesis_params import CutPaste
from stage.datasets.components import bounding_box

TRIES = 50  # draws of two places; if none is good, the best is taken
THINNEST = 0.75  # px; half the width of the thinnest scar
SIDE = 256  # px; the size of the paper's images, for which scars are given


class Cut(NamedTuple):
    """What is cut and where it goes, px: a rectangle and its corner, the corner of the box it is pasted in, and the rotation, degrees."""

    height: int
    width: int
    from_y: int
    from_x: int
    to_y: int
    to_x: int
    rotation: float = 0.0

    @property
    def shape(self) -> Mask:
        """The pasted pixels in their box: those whose centres lie inside the turned rectangle; the whole box if it is not turned."""
        return turned_rectangle(self.height, self.width, self.rotation)

    def mask(self, height: int, width: int) -> Mask:
        """The pasted pixels of an image."""
        mask, shape = np.zeros((height, width), np.uint8), self.shape
        mask[self.to_y : self.to_y + shape.shape[0], self.to_x : self.to_x + shape.shape[1]] = shape
        return mask

    def overlap(self) -> float:
        """The share of the pasted pixels that lie where they were cut: they would hardly differ, and be labelled as defect."""
        shape = self.shape
        top, left = self.from_y - self.to_y, self.from_x - self.to_x
        inside = shape[max(0, top) : max(0, top + self.height), max(0, left) : max(0, left + self.width)]
        return float(inside.sum() / shape.sum())

    @property
    def box(self) -> Box:
        """Rows and columns of the image in which pixels are pasted."""
        rows, columns = bounding_box(self.shape)
        return slice(self.to_y + rows.start, self.to_y + rows.stop), slice(self.to_x + columns.start, self.to_x + columns.stop)

    def piece(self, picture: Pixels) -> Pixels:
        """What is pasted, as large as `box`: cut from the picture and turned."""
        if not self.rotation:
            return picture[self.from_y : self.from_y + self.height, self.from_x : self.from_x + self.width]
        rows, columns = self.shape.shape
        middle = (self.from_x + (self.width - 1) / 2, self.from_y + (self.height - 1) / 2)
        matrix = cv2.getRotationMatrix2D(middle, self.rotation, 1)
        matrix[:, 2] += (self.to_x + (columns - 1) / 2 - middle[0], self.to_y + (rows - 1) / 2 - middle[1])
        # The box alone, at the places in single precision that OpenCV's `warpAffine` takes for the whole image, in a tenth of its time.
        inverse = np.asarray(cv2.invertAffineTransform(matrix), np.float32)
        y, x = np.ogrid[self.box]
        from_x, from_y = (row[0] * x.astype(np.float32) + (row[1] * y.astype(np.float32) + row[2]) for row in inverse)
        return np.asarray(cv2.remap(picture, from_x, from_y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101), np.uint8)


@lru_cache(maxsize=1)  # asked for many times while one cut is drawn and pasted
def turned_rectangle(height: int, width: int, rotation: float) -> Mask:
    """The pixels of a rectangle, px and degrees, in the smallest box around it; read-only."""
    sine, cosine = np.sin(np.deg2rad(rotation)), np.cos(np.deg2rad(rotation))
    rows_count = int(np.ceil(abs(height * cosine) + abs(width * sine) - 1e-9))
    columns_count = int(np.ceil(abs(width * cosine) + abs(height * sine) - 1e-9))
    rows, columns = np.arange(rows_count)[:, None] - (rows_count - 1) / 2, np.arange(columns_count) - (columns_count - 1) / 2
    across, down = columns * cosine - rows * sine, columns * sine + rows * cosine
    # A turned line of one pixel would otherwise slip between the pixels' centres.
    inside = ((np.abs(across) < max(width / 2, THINNEST)) & (np.abs(down) < max(height / 2, THINNEST))).astype(np.uint8)
    inside.flags.writeable = False
    return inside


def drawn_cut(variant: str, part: Mask, params: CutPaste, random: Random) -> tuple[Cut, int]:
    """A patch or a scar for an image whose object is `part`, and the number of draws of its places.

    The first draw of places with enough on the object and little overlap with the cut's own place; the best of 50 if there is none.
    """
    size = (scar_size if variant == "scar" else patch_size)(part.shape, params, random)
    rotation = float(random.uniform(-params.rotation, params.rotation)) if variant == "scar" else 0.0
    best, best_fault = Cut(size[0], size[1], 0, 0, 0, 0, rotation), np.inf
    on_object = np.argwhere(part) if params.on_object else None
    for tries in range(1, TRIES + 1):
        cut = _placed(best, part, on_object, random)
        fault = _fault(cut, part, params)
        if fault == 0:
            return cut, tries
        if fault < best_fault:
            best, best_fault = cut, fault
    return best, TRIES


def patch_size(shape: tuple[int, ...], params: CutPaste, random: Random) -> tuple[int, int]:
    """Height and width of a patch, px: by its share of the image's area and its aspect, which is under one half of the time."""
    height, width = shape
    area = random.uniform(*params.area) * height * width
    low, high = params.aspect
    aspect = random.uniform(low, 1) if random.random() < 0.5 else random.uniform(1, high)
    tall, wide = int(np.sqrt(area / aspect)), int(np.sqrt(area * aspect))
    return min(max(tall, 1), height), min(max(wide, 1), width)


def scar_size(shape: tuple[int, ...], params: CutPaste, random: Random) -> tuple[int, int]:
    """Height and width of a scar before it is turned, px; given at 256 px, and scaled with the image."""
    wide, long = (int(random.integers(*bounds, endpoint=True)) for bounds in (params.scar_width, params.scar_length))
    scale = min(shape) / SIDE
    return max(1, round(long * scale)), max(1, round(wide * scale))


def drawn_shift(mask: Mask, overlap: float, random: Random) -> tuple[int, int]:
    """How far below and to the right of a mask its pixels are cut, px: the first of 50 draws with little overlap, else the one with least."""
    rows, columns = bounding_box(mask)
    own = mask[rows, columns]
    least: tuple[float, int, int] = (np.inf, 0, 0)
    for _ in range(TRIES):
        y = int(random.integers(-rows.start, mask.shape[0] - rows.stop, endpoint=True))
        x = int(random.integers(-columns.start, mask.shape[1] - columns.stop, endpoint=True))
        there = mask[rows.start + y : rows.stop + y, columns.start + x : columns.stop + x]
        least = min(least, (float((own & there).sum() / own.sum()), y, x))
        if least[0] <= overlap:
            break
    return least[1:]


def _placed(cut: Cut, part: Mask, on_object: NDArray[np.int64] | None, random: Random) -> Cut:
    """The cut between two places, both wholly inside the image and any of them equally likely; with `on_object` it is pasted around a pixel of the object."""
    rows, columns = cut.shape.shape
    from_y, from_x = (int(random.integers(0, length - side, endpoint=True)) for length, side in zip(part.shape, cut[:2], strict=True))
    if on_object is None:
        to = [
            int(random.integers(0, max(0, length - side), endpoint=True)) for length, side in zip(part.shape, (rows, columns), strict=True)
        ]
    else:
        centre = on_object[random.integers(len(on_object))] - (rows // 2, columns // 2)
        to = np.clip(centre, 0, np.maximum(0, np.array(part.shape) - (rows, columns))).tolist()
    return cut._replace(from_y=from_y, from_x=from_x, to_y=to[0], to_x=to[1])


def _fault(cut: Cut, part: Mask, params: CutPaste) -> float:
    """How much of a cut overlaps its own place, or lies off the object, beyond what is allowed."""
    shape = cut.shape
    there = part[cut.to_y : cut.to_y + shape.shape[0], cut.to_x : cut.to_x + shape.shape[1]]
    on_object = float((there & shape).sum() / shape.sum())
    return max(0.0, cut.overlap() - params.overlap) + max(0.0, params.on_object - on_object)
