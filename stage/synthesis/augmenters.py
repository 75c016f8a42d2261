"""The ten texture augmenters of DRAEM (Zavrtanik et al., ICCV 2021), as its released code draws their parameters.

That code calls imgaug, which does not import with NumPy 2. Pictures are (H, W, 3) uint8 RGB of any size.
"""

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from stage.core.arrays import Pixels, Random

Augmenter = Callable[[Pixels, Random], Pixels]
LEVELS = np.arange(256, dtype=np.float64)
# Colour spaces with a channel of brightness: the conversions to and from each, and the channel's number.
BRIGHTNESS = (
    (cv2.COLOR_RGB2YCrCb, cv2.COLOR_YCrCb2RGB, 0),
    (cv2.COLOR_RGB2HSV, cv2.COLOR_HSV2RGB, 2),
    (cv2.COLOR_RGB2HLS, cv2.COLOR_HLS2RGB, 1),
    (cv2.COLOR_RGB2Lab, cv2.COLOR_Lab2RGB, 0),
    (cv2.COLOR_RGB2Luv, cv2.COLOR_Luv2RGB, 0),
    (cv2.COLOR_RGB2YUV, cv2.COLOR_YUV2RGB, 0),
)
SMOOTH = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]]) / 13  # Pillow's filter of this name
IDENTITY = np.array([[0, 0, 0], [0, 1, 0], [0, 0, 0]])


def augmented(picture: Pixels, names: Sequence[str], random: Random, augmenters: Mapping[str, Augmenter] | None = None) -> Pixels:
    """The picture after these of the ten augmenters, or of others, in this order."""
    for name in names:
        picture = (augmenters or AUGMENTERS)[name](picture, random)
    return picture


def drawn(names: Sequence[str], count: int, random: Random) -> list[str]:
    """`count` different names, all equally likely, in the order in which they are drawn."""
    return [names[int(k)] for k in random.permutation(len(names))[:count]]


def gamma(picture: Pixels, random: Random) -> Pixels:
    """(v / 255)^gamma, gamma from 0.5 to 2, drawn for each channel."""
    return _mapped(picture, 255 * (LEVELS[:, None] / 255) ** random.uniform(0.5, 2.0, 3))


def brightness(picture: Pixels, random: Random) -> Pixels:
    """Brightness times 0.8 to 1.2 and plus -30 to 30, in either order, in one of six colour spaces."""
    there, back, channel = BRIGHTNESS[random.integers(len(BRIGHTNESS))]
    factor, offset = random.uniform(0.8, 1.2), random.uniform(-30, 30)
    curve = _level(_level(LEVELS * factor) + offset) if random.random() < 0.5 else _level(_level(LEVELS + offset) * factor)
    table = np.repeat(LEVELS[:, None], 3, axis=1)
    table[:, channel] = curve
    return np.asarray(cv2.cvtColor(_mapped(np.asarray(cv2.cvtColor(picture, there), np.uint8), table), back), np.uint8)


def sharpness(picture: Pixels, random: Random) -> Pixels:
    """Sharpness times 0 (smoothed) to 2, where 1 changes nothing; the border stays as it is."""
    factor = random.uniform(0, 2)
    sharper = np.asarray(cv2.filter2D(picture, -1, factor * IDENTITY + (1 - factor) * SMOOTH), np.uint8)
    sharper[[0, -1]], sharper[:, [0, -1]] = picture[[0, -1]], picture[:, [0, -1]]
    return sharper


def hue_and_saturation(picture: Pixels, random: Random) -> Pixels:
    """Hue turned by up to 70 degrees and saturation moved by up to 50 of 255, either way, drawn separately."""
    hue, saturation = random.integers(-50, 50, 2, endpoint=True)
    turn = int(hue / 255 * 180)  # OpenCV counts hue in two degrees
    table = np.stack([(LEVELS + turn) % 180, LEVELS + saturation, LEVELS], axis=1)
    return np.asarray(
        cv2.cvtColor(_mapped(np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV), np.uint8), table), cv2.COLOR_HSV2RGB), np.uint8
    )


def solarise(picture: Pixels, random: Random) -> Pixels:
    """One half of the time, levels from a threshold of 32 to 128 on are inverted."""
    threshold, is_on = random.uniform(32, 128), random.random() < 0.5
    return _mapped(picture, np.where(threshold <= LEVELS, 255 - LEVELS, LEVELS)) if is_on else picture


def posterise(picture: Pixels, random: Random) -> Pixels:
    """The highest one to eight bits of every level."""
    dropped = 8 - int(random.integers(1, 8, endpoint=True))
    return picture & np.uint8(256 - 2**dropped)


def invert(picture: Pixels, random: Random) -> Pixels:  # the signature of every augmenter
    """255 minus every level."""
    return ~picture


def autocontrast(picture: Pixels, random: Random) -> Pixels:
    """Every channel stretched to the whole range after 0 to 20 % of its darkest and brightest pixels are cut off, the same share for all."""
    return np.array(ImageOps.autocontrast(Image.fromarray(picture), cutoff=int(random.integers(0, 20, endpoint=True))))


def equalise(picture: Pixels, random: Random) -> Pixels:  # the signature of every augmenter
    """Every channel with an even histogram."""
    return np.array(ImageOps.equalize(Image.fromarray(picture)))


def rotate(picture: Pixels, random: Random) -> Pixels:
    """Turned about the centre by up to 45 degrees either way, bilinear; black corners."""
    return rotated(picture, random.uniform(-45, 45), cv2.INTER_LINEAR)


def rotated(picture: Pixels, degrees: float, interpolation: int) -> Pixels:
    """The picture turned about its centre on a canvas of its size, black outside."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1)
    return np.asarray(cv2.warpAffine(picture, matrix, (width, height), flags=interpolation), np.uint8)


def _mapped(picture: Pixels, table: NDArray[np.float64]) -> Pixels:
    """Every level by a table (256,), or one for each channel (256, 3)."""
    levels = _level(table).astype(np.uint8)
    return np.asarray(cv2.LUT(picture, levels.reshape(256, 1, -1)), np.uint8)


def _level(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(np.rint(values), 0, 255)


AUGMENTERS: dict[str, Augmenter] = {
    "gamma": gamma,
    "brightness": brightness,
    "sharpness": sharpness,
    "hue_and_saturation": hue_and_saturation,
    "solarise": solarise,
    "posterise": posterise,
    "invert": invert,
    "autocontrast": autocontrast,
    "equalise": equalise,
    "rotate": rotate,
}
