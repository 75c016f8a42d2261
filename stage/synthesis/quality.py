"""Judges every sample by its pixels. A rejected sample keeps its row, with the reason.

H, W image size. A sample's defects are the components of its mask; pixels that touch at a corner are connected.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stage.datasets.components import bounding_box, components, dilated
from stage.datasets.pairs import Pair
from stage.synthesis.method import Rendered
from stage.synthesis.rows import Verdict


class Defects(NamedTuple):
    """Of each component of a mask, (n,): its contrast, of 255, and whether the latent grid held at least half of its pixels."""

    contrasts: NDArray[np.float64]
    are_held: NDArray[np.bool_]


def judge(rendered: Rendered, background: NDArray[np.uint8], contrast_threshold: float) -> Verdict:
    """Accept a sample if every defect is visible and the photograph is unchanged around them.

    The method may have softened the seam within `rendered.reach` px of the mask.
    """
    sample, shown = rendered.pair, rendered.shown
    box = bounding_box(sample.mask)
    difference = np.abs(sample.image[box].astype(np.int16) - background[box])[sample.mask[box] > 0]
    contrast = round(float(difference.mean()), 3) if len(difference) else 0.0
    defects = _defects(sample.mask[box], difference, None if shown is None else shown[box])
    outside = _largest_change(sample, background, rendered.reach)
    is_visible = defects.are_held & (defects.contrasts >= contrast_threshold)
    reasons = _reasons(defects, outside, contrast_threshold)
    verdict = "rejected" if reasons else "accepted"
    return Verdict(contrast, outside, len(is_visible), int(is_visible.sum()), verdict, "; ".join(reasons))


def _defects(mask: NDArray[np.uint8], difference: NDArray[np.int16], shown: NDArray[np.bool_] | None) -> Defects:
    """`difference`: (pixels of the mask, 3), row by row."""
    labels = components(mask)
    count = labels.max(initial=0)
    number = labels[mask > 0] - 1
    sizes = np.bincount(number, minlength=count)
    contrasts = np.round(np.bincount(number, weights=difference.sum(1), minlength=count) / (3 * sizes), 3)
    kept = np.ones(len(number)) if shown is None else shown[mask > 0]
    return Defects(contrasts, 2 * np.bincount(number, weights=kept, minlength=count) >= sizes)


def _largest_change(sample: Pair, background: NDArray[np.uint8], reach: int) -> int:
    changed = (sample.image != background).any(axis=-1) & (dilated(sample.mask, reach) == 0)
    return int(np.abs(sample.image[changed].astype(np.int16) - background[changed]).max(initial=0))


def _reasons(defects: Defects, outside: int, contrast_threshold: float) -> list[str]:
    count = len(defects.contrasts)
    if not count:
        return ["empty mask"]
    lost = int((~defects.are_held).sum())
    faint = defects.contrasts[defects.are_held & (defects.contrasts < contrast_threshold)]
    reasons = [f"{lost} of {count} defects have no cell on the latent grid"] if lost else []
    if len(faint):
        reasons += [f"faint: {len(faint)} of {count} defects, contrast down to {faint.min():g} of 255, under {contrast_threshold:g}"]
    return reasons + ([f"background changed by up to {outside} of 255"] if outside else [])
