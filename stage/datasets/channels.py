"""Chooses the channel of `prepare.foreground.channel: auto`: the one in which the object stands out most from what it lies on.

Images are (H, W, 3) uint8 RGB.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from stage.core.data_params import Foreground
from stage.datasets.foreground import channel, foreground

CANDIDATES = ("grey", "red", "green", "blue", "saturation")  # the first of equals wins: a grey photograph has four equal channels
LOOKED_AT = 24  # normal training images of a category, evenly spaced
LEVELS = 256


def best_channel(images: Iterable[NDArray[np.uint8]], params: Foreground) -> str:
    """The channel with the largest mean over the images of Otsu's between-class share, which counts as 0 where no object is found.

    Where no channel shows an object, as on cloth, it is the first: `grey`.
    """
    scores = np.zeros(len(CANDIDATES))
    for image in images:
        scores += [_stands_out(image, params.model_copy(update={"channel": name})) for name in CANDIDATES]
    return CANDIDATES[int(scores.argmax())]


def _stands_out(image: NDArray[np.uint8], params: Foreground) -> float:
    return between_class_share(channel(image, params.channel)) if foreground(image, params).strategy != "none" else 0.0


def between_class_share(values: NDArray[np.uint8]) -> float:
    """The largest share of the variance of grey levels (H, W) that one threshold puts between its two sides (eta of Otsu, 1979); in [0, 1]."""
    share = np.bincount(values.ravel(), minlength=LEVELS) / values.size
    below, level = share.cumsum()[:-1], np.arange(LEVELS)
    mean = float(share @ level)
    variance = float(share @ (level - mean) ** 2)
    both = (below > 0) & (below < 1)
    if not both.any() or not variance:
        return 0.0
    moment = (share * level).cumsum()[:-1]
    between = (mean * below[both] - moment[both]) ** 2 / (below[both] * (1 - below[both]))
    return float(between.max()) / variance
