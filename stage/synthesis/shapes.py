"""Masks of new shapes: their kinds, what the plan draws for them, and the mask that follows from a plan row.

H, W image size. Masks are (H, W) uint8 in {0, 1}, 1 = defect.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stage.core.arrays import Mask
from stage.core.digests import derived_seed
from stage.datasets.rules import GOOD
from stage.datasets.table import training_pool
from stage.datasets.windows import turn
from stage.synthesis.motion import centre_of
from stage.synthesis.plan import DefectSource
from stage.synthesis.reshaping import MOST, resampled, warped
from stage.synthesis.rows import PlanRow, mixed_masks
from stage.synthesis.source import Source
from stage.synthesis.strokes import DRAWN

RESHAPED = ("warped", "resampled")  # from real masks
NEW = (*DRAWN, *RESHAPED)
LONGEST = 0.9  # of the image's smaller side; the longest line


class ShapePlanner:
    """Plans masks of new shapes for the types of a category, in the sizes of their real masks."""

    def __init__(self, catalog: pd.DataFrame) -> None:
        """The sizes are from the catalog, which also has those of recalled masks: without these, every draw would change."""
        pool = training_pool(catalog)
        by_type = pool.loc[pool.defect != GOOD].groupby("defect").prepared_area
        self.areas = {str(defect): (int(areas.min()), int(areas.max())) for defect, areas in by_type if areas.notna().any()}

    def row(self, row: PlanRow, kind: str, real: DefectSource, pool: Sequence[DefectSource | None]) -> PlanRow:
        """The row with its mask's kind, seed and choices: `area` in px, and `masks`, those that the real one is mixed with.

        `pool`: the type's real masks, with None in the place of each that was recalled.

        The area is log-uniform between those of the type's smallest and largest mask. A type's only real mask has nothing to mix with, and
        is warped instead.
        """
        random = np.random.default_rng(derived_seed(row.seed, "shape"))
        drawn = [pool[k] for k in random.permutation(len(pool)).tolist()]  # with the recalled ones: without them every draw would change
        mixed = [one for one in drawn if one is not None and one != real][: MOST - 1]
        kind = "warped" if kind == "resampled" and not mixed else kind
        choices: dict[str, Any] = {} if kind == "warped" else {"area": self._drawn_area(row.defect, random)}
        choices |= {"masks": [one.mask._asdict() for one in mixed]} if kind == "resampled" else {}
        named = {"mask_path": real.mask_path, "mask_sha256": real.mask_sha256} if kind in RESHAPED else {}
        told = json.dumps(choices) if choices else ""
        return row._replace(mask_kind=kind, mask_turn=0, mask_seed=derived_seed(row.seed, "mask"), choices=told, **named)

    def _drawn_area(self, defect: str, random: np.random.Generator) -> int:
        smallest, largest = self.areas[defect]
        return round(float(np.exp(random.uniform(np.log(smallest), np.log(largest)))))


def shape_of(row: PlanRow, source: Source) -> Mask:
    """The mask of a row before it is moved: turned, from its file; or a new shape, in the real mask's place or, if drawn, anywhere."""
    if row.mask_kind not in NEW:
        return turn(source.masks[row.mask].mask, row.mask_turn)
    random = np.random.default_rng(row.mask_seed)
    if row.mask_kind in DRAWN:
        height, width = source.foregrounds[row.background_sha256].shape
        area = json.loads(row.choices)["area"]
        shape = DRAWN[row.mask_kind](area, LONGEST * min(height, width), random)
        return _inside(shape, random.integers((0, 0), (height, width)), height, width)
    real = source.masks[row.mask].mask
    return _inside(_reshaped(row, real, source, random), centre_of(real), *real.shape)


def _reshaped(row: PlanRow, real: Mask, source: Source, random: np.random.Generator) -> Mask:
    if row.mask_kind == "warped":
        return warped(real, random)
    others = (source.masks[one].mask for one in mixed_masks(row.choices))
    return resampled([real, *others], json.loads(row.choices)["area"], random)


def _inside(shape: Mask, centre: NDArray[np.int64], height: int, width: int) -> Mask:
    """A shape with the middle of its box near a pixel of an image (height, width), moved so that none of it is outside; cut if it is larger."""
    tall, wide = min(shape.shape[0], height), min(shape.shape[1], width)
    shape = shape[(shape.shape[0] - tall) // 2 :, (shape.shape[1] - wide) // 2 :][:tall, :wide]
    top, left = np.clip(centre - ((tall - 1) // 2, (wide - 1) // 2), 0, (height - tall, width - wide))
    mask = np.zeros((height, width), np.uint8)
    mask[top : top + tall, left : left + wide] = shape
    return mask if mask.any() else _one_pixel(mask)


def _one_pixel(mask: Mask) -> Mask:
    """A pixel in the middle, since nothing is left of a ring whose hole is larger than the image."""
    mask[tuple(side // 2 for side in mask.shape)] = 1
    return mask
