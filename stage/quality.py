"""A verdict on every sample, from pixels alone. Nothing vanishes: a rejected sample keeps its row, with the reason."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from stage.pairs import Pair


class Verdict(NamedTuple):
    """`contrast`: mean absolute difference to the background inside the mask; `outside`: largest one outside it; both of 255."""

    contrast: float
    outside: int
    verdict: str
    reason: str


def judge(sample: Pair, background: NDArray[np.uint8], min_contrast: float) -> Verdict:
    """Accept a sample whose defect can be seen and whose surroundings are the photograph's."""
    difference = np.abs(sample.image.astype(np.int16) - background).astype(np.int16)
    inside = sample.mask.astype(bool)
    contrast = round(float(difference[inside].mean()), 3) if inside.any() else 0.0
    outside = int(difference[~inside].max(initial=0))
    reasons = _reasons(contrast, outside, min_contrast, is_empty=not inside.any())
    return Verdict(contrast, outside, "rejected" if reasons else "accepted", "; ".join(reasons))


def _reasons(contrast: float, outside: int, min_contrast: float, *, is_empty: bool) -> list[str]:
    if is_empty:
        return ["empty mask"]
    faint = [f"faint: contrast {contrast:g} of 255 is under {min_contrast:g}"] if contrast < min_contrast else []
    return faint + ([f"background changed by up to {outside} of 255"] if outside else [])
