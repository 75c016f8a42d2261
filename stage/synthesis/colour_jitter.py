"""Brightness, contrast, saturation and hue of a picture, as torchvision defines them. Pictures are (H, W, 3) uint8 RGB."""

import cv2
import numpy as np
from numpy.typing import NDArray

from stage.core.arrays import Pixels, Random
from stage.datasets.foreground import LUMA

HUES = 180  # of OpenCV's hue circle


def jittered(picture: Pixels, amount: float, random: Random) -> Pixels:
    """Brightness, contrast and saturation times 1 - `amount` to 1 + `amount`, hue turned by up to `amount` of the circle, in random order."""
    for k in random.permutation(4):
        change = random.uniform(-amount, amount)
        picture = (brightness, contrast, saturation, hue)[k](picture, change if k == 3 else 1 + change)
    return picture


def brightness(picture: Pixels, factor: float) -> Pixels:
    """Every level times the factor."""
    return np.asarray(cv2.convertScaleAbs(picture, alpha=factor), np.uint8)


def contrast(picture: Pixels, factor: float) -> Pixels:
    """The difference of every level from the picture's mean luminance times the factor."""
    mean = float(np.array(cv2.sumElems(picture)[:3]) / (picture.shape[0] * picture.shape[1]) @ LUMA)
    return np.asarray(cv2.LUT(picture, _level(mean + factor * (np.arange(256) - mean))), np.uint8)


def saturation(picture: Pixels, factor: float) -> Pixels:
    """The difference of every level from its pixel's luminance times the factor."""
    grey = np.asarray(cv2.merge([luminance(picture)] * 3))
    return _level(grey + factor * (picture - grey))


def hue(picture: Pixels, turn: float) -> Pixels:
    """Every hue turned by this share of the circle."""
    turned = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV), np.uint8)
    turned[..., 0] = ((np.arange(256) + round(turn * HUES)) % HUES).astype(np.uint8)[turned[..., 0]]
    return np.asarray(cv2.cvtColor(turned, cv2.COLOR_HSV2RGB), np.uint8)


def grey(picture: Pixels) -> Pixels:
    """Every pixel as its luminance."""
    return _level(np.repeat(luminance(picture), 3, axis=2))


def luminance(picture: Pixels) -> NDArray[np.float32]:
    """(H, W, 1), 0 to 255."""
    return (picture @ LUMA)[..., None].astype(np.float32)


def _level(values: NDArray[np.floating]) -> Pixels:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)
