"""Training crops of a pair: their place, rotation, scale and tone. Pure functions of the generator that is passed in."""

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from stage.core.segment_params import Segment
from stage.datasets.pairs import Pair

Augmentation = Literal["mild", "strong"]
TONE = {"mild": 0.1, "strong": 0.3}  # largest change of contrast, relative, and of brightness, of full scale
JITTER = {"mild": 0.4, "strong": 0.25}  # of the crop; how far an aimed pixel may lie from its centre, before rotation and scale
SCALE = 1.4  # strong: enlarged or reduced by up to this factor
COLOUR = 0.2  # strong: largest relative change of each colour channel
NOISE = 6.0  # strong: largest standard deviation of grey noise, of 255
BLUR = 1.0  # strong: largest standard deviation of a Gaussian blur, in px


def crop_of(pair: Pair, params: Segment, augmentation: Augmentation, random: np.random.Generator) -> Pair:
    """An augmented crop, image (C, C, 3) and mask (C, C) with C = `params.crop`; what lies outside the image is its mirror image.

    A share `params.aimed` of the crops of a defective image hold a pixel of the defect. `mild`: the square's eight symmetries,
    contrast and brightness. `strong`: also any rotation, scale, colour, blur and noise.
    """
    centre = _centre(pair.mask, params.crop, params.aimed, random, augmentation)
    angle, scale = (random.uniform(0, 360), SCALE ** random.uniform(-1, 1)) if augmentation == "strong" else (0.0, 1.0)
    image, mask = (_cut(array, centre, params.crop, angle, scale) for array in pair)
    turns, flip = int(random.integers(4)), 1 - 2 * int(random.integers(2))
    image, mask = (np.ascontiguousarray(np.rot90(array, turns)[:, ::flip]) for array in (image, mask))
    return Pair(_toned(image, augmentation, random), mask)


def _centre(
    mask: NDArray[np.uint8], crop: int, aimed: float, random: np.random.Generator, augmentation: Augmentation
) -> tuple[float, float]:
    """Row and column of the crop's centre, moved so that the crop lies within the image if it fits.

    A strong crop aimed at a pixel may lie partly outside: moved inside, its rotation could make it lose the pixel.
    """
    wanted = random.uniform(0, 1, 2) * mask.shape
    if mask.any() and random.uniform() < aimed:
        pixels = np.argwhere(mask)
        wanted = pixels[random.integers(len(pixels))] + random.uniform(-1, 1, 2) * JITTER[augmentation] * crop
        if augmentation == "strong":
            return float(wanted[0]), float(wanted[1])
    low, high = np.minimum(crop, mask.shape) / 2, mask.shape - np.minimum(crop, mask.shape) / 2
    row, column = np.clip(wanted, low, high)
    return float(row), float(column)


def _cut(array: NDArray[np.uint8], centre: tuple[float, float], crop: int, angle: float, scale: float) -> NDArray[np.uint8]:
    row, column = centre
    if angle == 0 and scale == 1:  # whole pixels, so that nothing is interpolated
        row, column = round(row - crop / 2) + crop / 2, round(column - crop / 2) + crop / 2
    matrix = cv2.getRotationMatrix2D((column - 0.5, row - 0.5), angle, scale)
    matrix[:, 2] += np.array([crop / 2 - column, crop / 2 - row])
    how = cv2.INTER_NEAREST if array.ndim == 2 or (angle == 0 and scale == 1) else cv2.INTER_LINEAR
    return np.asarray(cv2.warpAffine(array, matrix, (crop, crop), flags=how, borderMode=cv2.BORDER_REFLECT_101), np.uint8)


def _toned(image: NDArray[np.uint8], augmentation: Augmentation, random: np.random.Generator) -> NDArray[np.uint8]:
    most = TONE[augmentation]
    contrast, brightness = random.uniform(1 - most, 1 + most), 255 * random.uniform(-most, most)
    mean = float(image.mean())
    toned = (image.astype(np.float32) - mean) * contrast + mean + brightness
    if augmentation == "strong":
        toned = toned * random.uniform(1 - COLOUR, 1 + COLOUR, 3).astype(np.float32)
        toned = cv2.GaussianBlur(toned, (0, 0), max(0.01, random.uniform(0, BLUR)))
        toned = toned + random.normal(0, random.uniform(0, NOISE), toned.shape[:2]).astype(np.float32)[..., None]
    return np.clip(np.rint(toned), 0, 255).astype(np.uint8)
