"""Pastes defects into photographs. Outside the mask, and beyond a soft seam around it, every byte is the photograph's.

H, W image size, s side of the base's image. Images are (H, W, 3) uint8, masks (H, W) uint8 in {0, 1}, 1 = defect.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage
from scipy.sparse import csc_array
from scipy.sparse.linalg import spsolve

from stage.datasets.components import bounding_box, dilated
from stage.datasets.resize import resize_image
from stage.datasets.windows import Window


def paste_back(synthetic: NDArray[np.uint8], background: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`synthetic` inside the mask, `background` byte for byte outside it; (H, W, 3) uint8 each.

    Nothing is softened inside the mask: those pixels would look normal and still be labelled as defect.
    """
    return np.where(mask[..., None] > 0, synthetic, background)


def mixed(anomaly: NDArray[np.uint8], image: NDArray[np.uint8], mask: NDArray[np.uint8], opacity: float) -> NDArray[np.uint8]:
    """`opacity` x `anomaly` + (1 - `opacity`) x `image` inside the mask, `image` byte for byte outside it; (H, W, 3) uint8 each.

    An opacity of 0 gives `image`, and 1 `anomaly` inside the mask. DRAEM's and GLASS's beta is 1 - `opacity`, RealNet's parameter `opacity`.
    """
    return paste_back(np.asarray(cv2.addWeighted(anomaly, opacity, image, 1 - opacity, 0), np.uint8), image, mask)


def paste(synthetic: NDArray[np.uint8], background: NDArray[np.uint8], mask: NDArray[np.uint8], place: Window) -> NDArray[np.uint8]:
    """The photograph (H, H, 3) with `synthetic` (s, s, 3), made for a window, inside the mask; byte for byte `background` outside it."""
    return _put(_resized(synthetic, place.side), background, mask, place)


def paste_change(
    before: NDArray[np.uint8],
    after: NDArray[np.uint8],
    begun: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    place: Window,
    *,
    in_window: bool = False,
) -> NDArray[np.uint8]:
    """`begun` (H, H, 3), a window of which was reduced to `before` and became `after`, (s, s, 3) each, with the change inside the mask.

    The change from one to the other is enlarged and added, so what is finer than their pixels stays that of `begun`.
    `in_window`: it is added in the whole window, so that the defect's pixels are not the only ones that a network has touched. Outside the
    mask it fades out towards those edges of the window that lie inside the photograph, over an eighth of its side.
    """
    weights: NDArray[Any] = mask[place.region]
    if in_window:
        fading = (_fading(first, place.side, len(mask)) for first in (place.top, place.left))
        weights = np.maximum(np.outer(*fading), weights)
    change = weights[..., None] * _change(before, after, place)
    image = begun.copy()
    image[place.region] = np.clip(np.rint(begun[place.region] + change), 0, 255).astype(np.uint8)
    return image


def _change(before: NDArray[np.uint8], after: NDArray[np.uint8], place: Window) -> NDArray[np.float32]:
    """`after` less `before` in the window's pixels; reduced, the mean over each pixel's own area."""
    how = cv2.INTER_CUBIC if place.side > len(before) else cv2.INTER_AREA
    return np.asarray(cv2.resize(after.astype(np.float32) - before, (place.side, place.side), interpolation=how), np.float32)


def _fading(first: int, side: int, length: int) -> NDArray[np.float64]:
    """Weights (side,) of rows or columns of a window that begins at `first`: 1, and less towards an edge that is not the photograph's."""
    ramp, at = max(side // 8, 1), np.arange(1, side + 1)
    low = np.ones(side) if first == 0 else at / ramp
    high = np.ones(side) if first + side == length else at[::-1] / ramp
    return np.minimum(np.minimum(low, high), 1)


def _put(window: NDArray[np.uint8], background: NDArray[np.uint8], mask: NDArray[np.uint8], place: Window) -> NDArray[np.uint8]:
    image = background.copy()
    image[place.region] = paste_back(window, background[place.region], mask[place.region])
    return image


def _resized(synthetic: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    if len(synthetic) <= side:
        return synthetic if len(synthetic) == side else resize_image(synthetic, side)
    # The mean over each pixel's own area: a wider filter would mix its surroundings into a defect of a few pixels.
    return np.array(Image.fromarray(synthetic).resize((side, side), Image.Resampling.BOX))


def blended(
    defect: NDArray[np.uint8], background: NDArray[np.uint8], mask: NDArray[np.uint8], *, blend: str, reach: int
) -> NDArray[np.uint8]:
    """`defect` inside the mask on `background`; (H, W, 3) uint8 each. Nothing changes farther than `reach` px from the mask.

    `hard` changes nothing outside the mask; `outward` lets the defect fade out over `reach` px beyond it; `poisson` keeps the
    defect's gradients and meets the background at that distance (Perez et al., SIGGRAPH 2003). None of them softens
    inside the mask: those pixels would look normal and still be labelled as defect.
    """
    box = _grown(bounding_box(mask), reach + 2, mask.shape)
    inside, old, new = mask[box], background[box], defect[box]
    if blend == "poisson":
        mixed = _gradients_kept(new, old, dilated(inside, reach))
    else:
        mixed = _faded(new, old, inside, reach if blend == "outward" else 0)
    image = background.copy()
    image[box] = mixed
    return image


def _faded(new: NDArray[np.uint8], old: NDArray[np.uint8], mask: NDArray[np.uint8], reach: int) -> NDArray[np.uint8]:
    distance: NDArray[np.float64] = ndimage.distance_transform_edt(mask == 0)  # pyright: ignore[reportAssignmentType]  # None if asked
    weights = np.clip(1 - distance / (reach + 1), 0, 1)[..., None]
    weights[dilated(mask, reach) == 0] = 0
    return np.rint(weights * new + (1 - weights) * old).astype(np.uint8)


def _gradients_kept(new: NDArray[np.uint8], old: NDArray[np.uint8], region: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`new` plus the harmonic function that makes it meet `old` around the region: Poisson's equation, solved exactly.

    OpenCV's seamless clone shrinks the region by 3 px on every side, which removes a scratch or a pinhole altogether.
    """
    inside = region > 0
    if inside.all():  # nothing to meet
        return new
    difference = old.astype(np.float64) - new
    change = np.zeros_like(difference)
    change[inside] = np.asarray(spsolve(*_laplace(inside, difference), permc_spec="MMD_AT_PLUS_A")).reshape(-1, 3)
    return np.where(inside[..., None], np.clip(np.rint(new + change), 0, 255), old).astype(np.uint8)


def _laplace(inside: NDArray[np.bool_], known: NDArray[np.float64]) -> tuple[csc_array, NDArray[np.float64]]:
    """Matrix (n, n) and right side (n, 3) of Laplace's equation on the n pixels inside, `known` (H, W, 3) being given on all others."""
    numbers = np.cumsum(inside).reshape(inside.shape) - 1
    places = np.argwhere(inside)
    degree, right = np.zeros(len(places)), np.zeros((len(places), 3))
    entries: list[NDArray[np.intp]] = []
    for step in ((0, 1), (1, 0), (0, -1), (-1, 0)):
        beside = places + step
        exists = ((beside >= 0) & (beside < inside.shape)).all(axis=1)
        rows, (y, x) = np.flatnonzero(exists), beside[exists].T
        degree[rows] += 1
        is_free = inside[y, x]
        right[rows[~is_free]] += known[y[~is_free], x[~is_free]]
        entries.append(np.stack([rows[is_free], numbers[y[is_free], x[is_free]]]))
    rows, columns = np.concatenate(entries, axis=1)
    diagonal = np.arange(len(places))
    values = np.concatenate([degree, np.full(len(rows), -1.0)])
    matrix = csc_array((values, (np.concatenate([diagonal, rows]), np.concatenate([diagonal, columns]))), shape=(len(places),) * 2)
    return matrix, right


def _grown(box: tuple[slice, slice], margin: int, shape: tuple[int, ...]) -> tuple[slice, slice]:
    rows, columns = (slice(max(0, side.start - margin), min(length, side.stop + margin)) for side, length in zip(box, shape, strict=True))
    return rows, columns
