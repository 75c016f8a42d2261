"""Brings a texture's picture to a sample's size: stretched, or scaled to cover it and cropped. Pictures are (H, W, 3) uint8 RGB."""

import cv2
import numpy as np

from stage.core.arrays import Pixels

ASPECT = 4  # times the sample's aspect; a strip of 1 x 20,000 px would otherwise become one of gigabytes


def stretched(picture: Pixels, height: int, width: int) -> Pixels:
    """A picture in this size; its aspect is not kept."""
    if picture.shape[:2] == (height, width):
        return picture
    shrinks = height * width < picture.shape[0] * picture.shape[1]
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR), np.uint8)


def covering(picture: Pixels, height: int, width: int) -> Pixels:
    """A picture scaled, in its own aspect, to the least size that covers this one. Of a long strip only the middle is kept."""
    most = ASPECT * max(height, width) / min(height, width)
    longest = max(1, int(most * min(picture.shape[:2])))
    picture = centre_crop(picture, *(min(side, longest) for side in picture.shape[:2]))
    scale = max(height / picture.shape[0], width / picture.shape[1])
    return stretched(picture, *(max(least, round(scale * side)) for side, least in zip(picture.shape, (height, width), strict=False)))


def centre_crop(picture: Pixels, height: int, width: int) -> Pixels:
    """The middle of a picture that covers this size."""
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return np.ascontiguousarray(picture[top : top + height, left : left + width])
