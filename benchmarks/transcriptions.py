"""DRAEM's and GLASS's released loaders and CutPaste, transcribed to whole arrays, as `rivals` measures beside the methods of the factory.

A pair is made of a photograph and, but for CutPaste, a texture of its size. scikit-image and SciPy take the place of imgaug.
H, W image size. Images are (H, W, 3) uint8 RGB, masks (H, W) uint8 in {0, 1}.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage import exposure

from stage.datasets.pairs import Pair
from stage.synthesis.augmenters import rotated

Pixels = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Random = np.random.Generator
Augmenters = list[Callable[[Pixels, Random], Pixels]]
LUMA = (0.299, 0.587, 0.114)


def draem(photograph: Pixels, texture: Pixels, random: Random) -> Pair:
    """A mask of noise that is not empty; three of ten augmenters; beta, one minus the opacity, up to 0.8."""
    mask = perlin_mask(photograph.shape[:2], random)
    while not mask.any():
        mask = perlin_mask(photograph.shape[:2], random)
    return blended(photograph, augmented(texture, DRAEM, random), mask, random.random() * 0.8)


def glass(photograph: Pixels, texture: Pixels, random: Random) -> Pair:
    """A union or an intersection of two masks, or one of them; three of nine augmenters; beta normal and clipped."""
    mask = np.zeros(photograph.shape[:2], np.bool_)
    while not mask.any():
        one, other = (perlin_mask(photograph.shape[:2], random) for _ in range(2))
        mask = (one, one & other, one | other)[random.integers(3)]
    return blended(photograph, augmented(texture, GLASS, random), mask, float(np.clip(random.normal(0.5, 0.1), 0.2, 0.8)))


def cutpaste(photograph: Pixels, random: Random) -> Pair:
    """A patch or a scar of the photograph, its colours jittered, elsewhere in it; each half of the time."""
    height, width = photograph.shape[:2]
    if random.random() < 0.5:
        area, aspect = random.uniform(0.02, 0.15) * height * width, random.uniform(*((0.3, 1) if random.random() < 0.5 else (1, 3.3)))
        tall, wide = min(int(np.sqrt(area / aspect)), height), min(int(np.sqrt(area * aspect)), width)
        piece = jittered(_cut(photograph, tall, wide, random), random)
        return _pasted(photograph, piece, np.ones((tall, wide), np.bool_), random)
    wide, tall = int(random.integers(2, 17)), int(random.integers(10, 26))
    piece, angle = jittered(_cut(photograph, tall, wide, random), random), random.uniform(-45, 45)
    turn = cv2.getRotationMatrix2D(((wide - 1) / 2, (tall - 1) / 2), angle, 1)
    sine, cosine = abs(turn[0, 1]), abs(turn[0, 0])
    size = (int(np.ceil(wide * cosine + tall * sine)), int(np.ceil(tall * cosine + wide * sine)))
    turn[:, 2] += ((size[0] - wide) / 2, (size[1] - tall) / 2)
    piece = np.dstack([piece, np.full((tall, wide), 255, np.uint8)])
    turned = np.asarray(cv2.warpAffine(piece, turn, size, flags=cv2.INTER_CUBIC), np.uint8)
    return _pasted(photograph, turned[..., :3], turned[..., 3] > 127, random)


def _cut(photograph: Pixels, tall: int, wide: int, random: Random) -> Pixels:
    y, x = random.integers(photograph.shape[0] - tall + 1), random.integers(photograph.shape[1] - wide + 1)
    return photograph[y : y + tall, x : x + wide]


def _pasted(photograph: Pixels, piece: Pixels, inside: Mask, random: Random) -> Pair:
    y, x = (int(random.integers(length - side + 1)) for length, side in zip(photograph.shape, inside.shape, strict=False))
    image, mask = photograph.copy(), np.zeros(photograph.shape[:2], np.uint8)
    place = (slice(y, y + inside.shape[0]), slice(x, x + inside.shape[1]))
    image[place][inside], mask[place] = piece[inside], inside
    return Pair(image, mask)


def jittered(picture: Pixels, random: Random) -> Pixels:
    """Brightness, contrast, saturation and hue by up to a tenth, in random order."""
    for k in random.permutation(4):
        picture = JITTER[k](picture, random.uniform(0.9, 1.1))
    return picture


def blended(photograph: Pixels, texture: Pixels, mask: Mask, beta: float) -> Pair:
    """Beta of the photograph and one minus beta of the texture inside the mask, as both loaders do: in floating point over the whole image."""
    image, anomaly, inside = photograph.astype(np.float32) / 255, texture.astype(np.float32) / 255, mask[..., None].astype(np.float32)
    made = image * (1 - inside) + (1 - beta) * anomaly * inside + beta * image * inside
    return Pair((made * 255).astype(np.uint8), mask.astype(np.uint8))


def augmented(texture: Pixels, augmenters: Augmenters, random: Random) -> Pixels:
    """The texture after three of the augmenters."""
    for k in random.permutation(len(augmenters))[:3]:
        texture = augmenters[k](texture, random)
    return texture


def perlin_mask(shape: tuple[int, ...], random: Random) -> Mask:
    """Noise of 1 to 32 cells a side, turned, above one half; may be empty."""
    height, width = shape
    lattice = [2 ** int(random.integers(6)) for _ in range(2)]
    noise = tiled_noise((height, width), (lattice[0], lattice[1]), random)
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), random.uniform(-90, 90), 1)
    return np.asarray(cv2.warpAffine(noise, turn, (width, height))) > 0.5  # imgaug's rotation is OpenCV's, too


def tiled_noise(shape: tuple[int, int], lattice: tuple[int, int], random: np.random.Generator) -> NDArray[np.float64]:
    """Perlin noise by repeating the gradients of every cell over its pixels, as published; the sizes have to divide."""
    cell = (shape[0] // lattice[0], shape[1] // lattice[1])
    grid = np.mgrid[0 : lattice[0] : lattice[0] / shape[0], 0 : lattice[1] : lattice[1] / shape[1]].transpose(1, 2, 0) % 1
    angles = 2 * np.pi * random.random((lattice[0] + 1, lattice[1] + 1))
    gradients = np.stack((np.cos(angles), np.sin(angles)), axis=-1)
    corners = {}
    for y, x in np.ndindex(2, 2):
        tiled = gradients[y : lattice[0] + y, x : lattice[1] + x].repeat(cell[0], 0).repeat(cell[1], 1)
        corners[y, x] = ((grid - (y, x)) * tiled).sum(-1)
    fade = 6 * grid**5 - 15 * grid**4 + 10 * grid**3
    left, right = (corners[0, x] + fade[..., 0] * (corners[1, x] - corners[0, x]) for x in (0, 1))
    return np.sqrt(2) * (left + fade[..., 1] * (right - left))


def _channels(picture: Pixels, change: Callable[[Pixels], NDArray[np.floating]]) -> Pixels:
    return np.stack([np.clip(change(picture[..., k]), 0, 255).astype(np.uint8) for k in range(3)], axis=2)


def _shifted(picture: Pixels, random: np.random.Generator) -> Pixels:
    moved = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV).astype(np.int64)
    moved[..., 0] = (moved[..., 0] + int(random.integers(-35, 36))) % 180
    moved[..., 1] = np.clip(moved[..., 1] + random.integers(-50, 51), 0, 255)
    return np.asarray(cv2.cvtColor(moved.astype(np.uint8), cv2.COLOR_HSV2RGB), np.uint8)


def _grey(picture: Pixels) -> NDArray[np.floating]:
    return np.repeat((picture @ np.array(LUMA))[..., None], 3, axis=2)


def _towards(picture: Pixels, other: NDArray[np.floating] | float, factor: float) -> Pixels:
    return np.clip(other + factor * (picture - other), 0, 255).astype(np.uint8)


def _brightness(picture: Pixels, factor: float) -> Pixels:
    return np.clip(picture * factor, 0, 255).astype(np.uint8)


def _contrast(picture: Pixels, factor: float) -> Pixels:
    return _towards(picture, float(_grey(picture).mean()), factor)


def _saturation(picture: Pixels, factor: float) -> Pixels:
    return _towards(picture, _grey(picture), factor)


def _hue(picture: Pixels, factor: float) -> Pixels:
    turned = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2HSV), np.uint8)
    turned[..., 0] = (turned[..., 0].astype(np.int64) + round((factor - 1) * 180)) % 180
    return np.asarray(cv2.cvtColor(turned, cv2.COLOR_HSV2RGB), np.uint8)


def _equalised(picture: Pixels, random: Random) -> Pixels:
    return _channels(picture, lambda one: 255 * exposure.equalize_hist(one))


DRAEM: Augmenters = [
    lambda picture, random: _channels(picture, lambda one: 255 * exposure.adjust_gamma(one / 255, random.uniform(0.5, 2))),
    lambda picture, random: _channels(picture, lambda one: one * random.uniform(0.8, 1.2) + random.uniform(-30, 30)),
    lambda picture, random: _channels(
        picture, lambda one: one + random.uniform(0, 1) * (one - ndimage.uniform_filter(one.astype(float), 3))
    ),
    _shifted,
    lambda picture, random: np.where(picture > random.uniform(32, 128), 255 - picture, picture),
    lambda picture, random: picture >> 4 << 4,
    lambda picture, random: 255 - picture,
    lambda picture, random: _channels(
        picture, lambda one: 255 * exposure.rescale_intensity(one / 255, tuple(np.percentile(one / 255, (10, 90))))
    ),
    _equalised,
    lambda picture, random: rotated(picture, random.uniform(-45, 45), cv2.INTER_LINEAR),
]
GLASS: Augmenters = [
    lambda picture, random: _contrast(picture, random.uniform(0.8, 1.2)),
    lambda picture, random: _brightness(picture, random.uniform(0.8, 1.2)),
    lambda picture, random: _hue(_saturation(picture, random.uniform(0.8, 1.2)), random.uniform(0.8, 1.2)),
    lambda picture, random: picture[:, ::-1],
    lambda picture, random: picture[::-1],
    lambda picture, random: _grey(picture).astype(np.uint8),
    lambda picture, random: _channels(picture, lambda one: 255 * exposure.rescale_intensity(one / 255)),
    _equalised,
    lambda picture, random: rotated(np.ascontiguousarray(picture), random.uniform(-45, 45), cv2.INTER_NEAREST),
]
JITTER = (_brightness, _contrast, _saturation, _hue)
