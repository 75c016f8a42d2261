"""A verdict on every sample, from pixels alone. Nothing vanishes: a rejected sample keeps its row, with the reason.

H W image size. A sample's defects are the components of its mask, pixels that touch at a corner counted as one.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stage.datasets.components import bounding_box, components
from stage.datasets.pairs import Pair
from stage.synthesis.rows import Verdict


class Defects(NamedTuple):
    """Of every component of a mask, (n,): its contrast, of 255, and whether half of its pixels or more were held by the latent grid."""

    contrasts: NDArray[np.float64]
    are_held: NDArray[np.bool_]


def judge(sample: Pair, background: NDArray[np.uint8], min_contrast: float, held: NDArray[np.bool_] | None = None) -> Verdict:
    """Accept a sample each of whose defects can be seen, and whose surroundings are the photograph's.

    `held` (H, W) are the defect pixels that the method could make (`crops.held`); None for a method that has no latent grid.
    """
    box = bounding_box(sample.mask)
    difference = np.abs(sample.image[box].astype(np.int16) - background[box])[sample.mask[box] > 0]
    contrast = round(float(difference.mean()), 3) if len(difference) else 0.0
    defects = _defects(sample.mask[box], difference, None if held is None else held[box])
    outside = _largest_change(sample, background)
    is_visible = defects.are_held & (defects.contrasts >= min_contrast)
    reasons = _reasons(defects, outside, min_contrast)
    verdict = "rejected" if reasons else "accepted"
    return Verdict(contrast, outside, len(is_visible), int(is_visible.sum()), verdict, "; ".join(reasons))


def _defects(mask: NDArray[np.uint8], difference: NDArray[np.int16], held: NDArray[np.bool_] | None) -> Defects:
    """`difference` (pixels of the mask, 3) in the order in which the mask lists them."""
    labels = components(mask)
    count = labels.max(initial=0)
    number = labels[mask > 0] - 1
    sizes = np.bincount(number, minlength=count)
    contrasts = np.round(np.bincount(number, weights=difference.sum(1), minlength=count) / (3 * sizes), 3)
    kept = np.ones(len(number)) if held is None else held[mask > 0]
    return Defects(contrasts, 2 * np.bincount(number, weights=kept, minlength=count) >= sizes)


def _largest_change(sample: Pair, background: NDArray[np.uint8]) -> int:
    changed = (sample.image != background).any(axis=-1) & (sample.mask == 0)
    return int(np.abs(sample.image[changed].astype(np.int16) - background[changed]).max(initial=0))


def _reasons(defects: Defects, outside: int, min_contrast: float) -> list[str]:
    count = len(defects.contrasts)
    if not count:
        return ["empty mask"]
    lost = int((~defects.are_held).sum())
    faint = defects.contrasts[defects.are_held & (defects.contrasts < min_contrast)]
    reasons = [f"{lost} of {count} defects have no cell on the latent grid"] if lost else []
    if len(faint):
        reasons += [f"faint: {len(faint)} of {count} defects, contrast down to {faint.min():g} of 255, under {min_contrast:g}"]
    return reasons + ([f"background changed by up to {outside} of 255"] if outside else [])
