"""How each defect of an image looks, as numbers: features of a network trained on ImageNet, in a window around the defect.

H, W image size, n defects (components of the mask), S side of a window, B windows. Images are (H, W, 3) uint8, masks (H, W) in {0, 1}.
"""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from stage.core.arrays import Box
from stage.datasets.components import components, dilated, largest_component
from stage.datasets.windows import first_pixel
from stage.model.efficientnet import CHANNELS, MEAN, STD, EfficientNetLite0

SIDE = 96  # px; every window is resized to this, so that a pinhole is seen as large as a crack, and any defect takes the same time
SMALLEST = 32  # px; side of the smallest window: three times enlarged
SHARE = 0.5  # of the window's side, which the defect's larger side takes
LEVELS = 4  # strides 2 to 16
RING = 1 / 16  # of the window's side; width of the surroundings that a defect is compared with
NEAR_FULL = 0.3  # of the most covered cell; a cell covered by less shows mostly the surroundings
FEATURES = 5 * sum(CHANNELS[:LEVELS])
ALONE = 2 * sum(CHANNELS[:LEVELS])  # features of a defect whose background is unknown
AT_ONCE = 32  # defects, with 64 windows, which take 250 MB in the network; a mask of dust has thousands
Number = TypeVar("Number", np.uint8, np.float32)


class _Windows(NamedTuple):
    """Pairs of image and background (2n, 3, S, S), and the shares of defect and of surroundings in each pixel, (n, 1, S, S)."""

    pixels: Tensor
    defects: Tensor
    rings: Tensor


def described(image: NDArray[np.uint8], background: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The description of every defect of an image, (n, FEATURES), in the order of `components`; always on the CPU, in float32.

    Means inside the defect of: the image's features, their differences to the surroundings and to the background, signed and
    absolute; and the largest absolute difference to the background.
    """
    if not mask.any():
        return np.zeros((0, FEATURES))
    labels = components(mask)
    count = int(labels.max())
    # Of nearly equal size: for a few windows that are left over, oneDNN takes other kernels, which round otherwise.
    some = np.array_split(np.arange(1, count + 1), -(-count // AT_ONCE))
    return np.concatenate([_described(_cut(image, background, mask, labels, each.tolist())) for each in some])


def described_alone(image: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.float64]:
    """The description of an image's largest defect without a background, (ALONE,): means inside it, and their differences to the surroundings.

    The mask has at least one pixel of defect.
    """
    labels = components(mask)
    pixels, defect, ring = _cut(image, image, mask, labels, [largest_component(labels)])
    parts: list[Tensor] = []
    with torch.inference_mode():
        for features in encoder()((pixels[:1] - MEAN) / STD, LEVELS):
            own, around = (_mean(features, functional.avg_pool2d(shares, SIDE // features.shape[-1])) for shares in (defect, ring))
            parts += [own, own - around]
    return torch.cat(parts, dim=1)[0].double().numpy()


@cache
def encoder() -> EfficientNetLite0:
    """The network, in eval mode on the CPU; the same for all samples of a process."""
    with torch.random.fork_rng(devices=[]):
        network = EfficientNetLite0()
    network.load_imagenet()
    return network.fused().to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]  # the stubs lack this argument alone


def _described(windows: _Windows) -> NDArray[np.float64]:
    with torch.inference_mode():
        levels = encoder()((windows.pixels - MEAN) / STD, LEVELS)
        parts = [_pooled(features, windows) for features in levels]
    return torch.cat(parts, dim=1).double().numpy()


def _pooled(features: Tensor, windows: _Windows) -> Tensor:
    """The means of one level, (n, 5 C), from features (2n, C, h, w)."""
    reduction = SIDE // features.shape[-1]
    inside, ring = (functional.avg_pool2d(shares, reduction) for shares in (windows.defects, windows.rings))
    seen, before = features[0::2], features[1::2]
    change = (seen - before).abs()
    own, largest = _mean(seen, inside), inside.amax((2, 3), keepdim=True)
    means = [own, own - _mean(seen, ring), own - _mean(before, inside), _mean(change, inside)]
    return torch.cat([*means, (change * (inside > NEAR_FULL * largest)).amax((2, 3))], dim=1)


def _mean(features: Tensor, shares: Tensor) -> Tensor:
    return (features * shares).sum((2, 3)) / shares.sum((2, 3)).clamp(min=1e-6)


def _cut(
    image: NDArray[np.uint8], background: NDArray[np.uint8], mask: NDArray[np.uint8], labels: NDArray[np.int32], numbers: Sequence[int]
) -> _Windows:
    """The windows around the defects of these numbers in `labels`."""
    boxes = ndimage.find_objects(labels)
    pixels, defects, rings = list[NDArray[np.uint8]](), list[NDArray[np.float32]](), list[NDArray[np.float32]]()
    for number in numbers:
        region = _window(boxes[number - 1], mask.shape)
        defect = labels[region] == number
        pixels += [_resized(pictures[region]) for pictures in (image, background)]
        defects.append(_resized(defect.astype(np.float32)))
        rings.append(_resized(_around(defect, mask[region]).astype(np.float32)))
    stacked = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().contiguous(memory_format=torch.channels_last)
    return _Windows(stacked, *(torch.from_numpy(np.stack(some))[:, None] for some in (defects, rings)))


def _around(defect: NDArray[np.bool_], mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """The ring around a defect outside the mask; if it is empty, all pixels outside the defect; if the defect fills the window, the defect."""
    ring = (dilated(defect.astype(np.uint8), max(2, round(len(defect) * RING))) > 0) & (mask == 0)
    return ring if ring.any() else ~defect if not defect.all() else defect


def _window(box: Box, shape: tuple[int, ...]) -> Box:
    """The square around a defect's box, moved and cut to lie in the image."""
    side = max(SMALLEST, *(round((one.stop - one.start) / SHARE) for one in box))
    sides = [min(side, length) for length in shape]
    firsts = [first_pixel(one.start, one.stop, own, length) for one, own, length in zip(box, sides, shape, strict=True)]
    rows, columns = (slice(first, first + own) for first, own in zip(firsts, sides, strict=True))
    return rows, columns


def _resized(pixels: NDArray[Number]) -> NDArray[Number]:
    if pixels.shape[:2] == (SIDE, SIDE):
        return pixels
    how = cv2.INTER_AREA if max(pixels.shape[:2]) > SIDE else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, (SIDE, SIDE), interpolation=how), pixels.dtype)
