"""Judges every sample by its pixels. A rejected sample keeps its row, with the reason.

H, W image size. A sample's defects are the components of its mask; pixels that touch at a corner are connected.
"""

import numpy as np
from numpy.typing import NDArray

from stage.datasets.components import components, dilated
from stage.datasets.pairs import Pair
from stage.synthesis.judge import Judge, Judgement, difference_sums
from stage.synthesis.method import Rendered
from stage.synthesis.rows import Verdict


def verdict_on(rendered: Rendered, background: NDArray[np.uint8], defect: str, judge: Judge | None) -> Verdict:
    """Accept a sample if none of its defects looks normal to the judge, if there is one, and the photograph is unchanged around them.

    A method may also require a contrast. It may have softened the seam within `rendered.reach` px of the mask, and have drawn a window anew.
    """
    sample = rendered.pair
    are_held = _held(sample.mask, rendered.shown)
    seen = judge.looks(sample, background, defect) if judge else Judgement(np.zeros(len(are_held)), 0.0, "", 0.0)
    contrast, outside = _contrast(sample, background), _largest_change(rendered, background)
    reasons = _reasons(are_held, seen.margins, outside)
    if are_held.size and contrast < rendered.least_contrast:
        reasons.append(f"hardly differs: {contrast:g} of 255 on average, under {rendered.least_contrast:g}")
    return Verdict(
        contrast=contrast,
        outside=outside,
        components=len(are_held),
        visible=int((are_held & (seen.margins >= 0)).sum()),
        margin=float(seen.margins.min(initial=np.inf)) if len(are_held) else 0.0,
        looks_normal=seen.looks_normal,
        nearest_sha256=seen.nearest_sha256,
        nearest_distance=seen.nearest_distance,
        verdict="rejected" if reasons else "accepted",
        reason="; ".join(reasons),
    )


def _contrast(sample: Pair, background: NDArray[np.uint8]) -> float:
    sums = difference_sums(sample, background)
    return round(float(sums.sum() / (3 * len(sums))), 3) if len(sums) else 0.0


def _held(mask: NDArray[np.uint8], shown: NDArray[np.bool_] | None) -> NDArray[np.bool_]:
    """Whether the latent grid held at least half of each component's pixels, (n,)."""
    labels = components(mask)
    numbers = labels[mask > 0] - 1
    count = int(labels.max(initial=0))
    sizes = np.bincount(numbers, minlength=count)
    kept = sizes if shown is None else np.bincount(numbers, weights=shown[mask > 0], minlength=count)
    return 2 * kept >= sizes


def _largest_change(rendered: Rendered, background: NDArray[np.uint8]) -> int:
    sample = rendered.pair
    changed = (sample.image != background).any(axis=-1) & (dilated(sample.mask, rendered.reach) == 0)
    if rendered.redrawn:
        changed[rendered.redrawn.region] = False
    return int(np.abs(sample.image[changed].astype(np.int16) - background[changed]).max(initial=0))


def _reasons(are_held: NDArray[np.bool_], margins: NDArray[np.float64], outside: int) -> list[str]:
    count = len(are_held)
    if not count:
        return ["empty mask"]
    lost = int((~are_held).sum())
    normal = margins[are_held & (margins < 0)]
    reasons = [f"{lost} of {count} defects have no cell on the latent grid"] if lost else []
    if len(normal):
        reasons += [f"looks normal: {len(normal)} of {count} defects, {-normal.min():g} below the threshold"]
    return reasons + ([f"background changed by up to {outside} of 255"] if outside else [])
