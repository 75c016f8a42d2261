"""The eight quarter turns and flips of a square, for images and their masks alike."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)
TURNS = 8


def turn(pixels: NDArray[Scalar], k: int) -> NDArray[Scalar]:
    """(H, W, ...) after k % 4 quarter turns, mirrored for k >= 4; k = 0 changes nothing."""
    quarter = np.rot90(pixels, k % 4)
    return np.ascontiguousarray(quarter[:, ::-1] if k >= 4 else quarter)
