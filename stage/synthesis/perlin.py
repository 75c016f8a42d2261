"""Masks of thresholded Perlin noise, as DRAEM, GLASS and RealNet draw them, for images of any height and width.

H, W image size; a lattice of (R_y, R_x) cells has (R_y + 1, R_x + 1) nodes. Masks are (H, W) uint8 in {0, 1}, 1 = defect.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from stage.core.arrays import Values
from stage.core.synthesis_params import Perlin
from stage.datasets.components import components

ROTATION = 90.0  # degrees; largest rotation of the noise, either way
TRIES = 50  # draws for a mask with few enough components; if all fail, the largest components of the last draw are kept


def perlin_mask(height: int, width: int, params: Perlin, random: np.random.Generator) -> NDArray[np.uint8]:
    """The pixels where rotated Perlin noise exceeds the threshold, in at most `max_components` parts (8 neighbours); may be empty."""
    for _ in range(TRIES - 1):
        mask = _drawn_noise(height, width, params, random) > params.threshold
        if components(mask).max() <= params.max_components:
            return mask.astype(np.uint8)
    return _largest(_drawn_noise(height, width, params, random) > params.threshold, params.max_components)


def _largest(mask: NDArray[np.bool_], count: int) -> NDArray[np.uint8]:
    labels = components(mask)
    sizes = np.bincount(labels.ravel())[1:]
    return np.isin(labels, 1 + sizes.argsort(stable=True)[-count:]).astype(np.uint8)


def _drawn_noise(height: int, width: int, params: Perlin, random: np.random.Generator) -> NDArray[np.float32]:
    low, high = params.exponents
    rows, columns = (2 ** int(random.integers(low, high, endpoint=True)) for _ in range(2))
    angles = random.uniform(0, 2 * np.pi, (rows + 1, columns + 1))
    noise = perlin_noise(height, width, angles).astype(np.float32)
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), random.uniform(-ROTATION, ROTATION), 1)
    rotated = cv2.warpAffine(noise, turn, (width, height), flags=cv2.INTER_LINEAR)  # 0 outside; twenty times as fast as SciPy's rotation
    return np.asarray(rotated, np.float32)


def perlin_noise(height: int, width: int, angles: Values) -> Values:
    """Noise (H, W) in [-1, 1] of the unit gradients (R_y + 1, R_x + 1) at `angles`, in radians from the axis of the rows.

    The noise of a pixel is the sum over its cell's four nodes of gradient times offset, weighted by the fade of both
    offsets. Both factors are separable, so the sum is two matrix products, and no size has to divide another.
    """
    rows, columns = angles.shape[0] - 1, angles.shape[1] - 1
    down, across = _offsets(height, rows), _offsets(width, columns)
    along_rows = (_weights(down) * down) @ np.cos(angles) @ _weights(across).T
    along_columns = _weights(down) @ np.sin(angles) @ (_weights(across) * across).T
    return np.sqrt(2) * (along_rows + along_columns)


def _offsets(size: int, cells: int) -> Values:
    """From every node to every pixel, (size, cells + 1), in cells."""
    return np.arange(size)[:, None] * cells / size - np.arange(cells + 1)


def _weights(offsets: Values) -> Values:
    """The weight of a node at a pixel: 1 at the node, 0 from the next node on, the fade 6 t^5 - 15 t^4 + 10 t^3 between them."""
    t = 1 - np.clip(np.abs(offsets), 0, 1)
    return t**3 * (6 * t**2 - 15 * t + 10)
