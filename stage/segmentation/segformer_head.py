"""SegFormer's head with its fusion before the enlarging instead of after it: the same function, faster."""

from collections.abc import Sequence
from typing import Any

from mmseg.models.decode_heads.segformer_head import SegformerHead
from mmseg.models.utils import resize
from torch import Tensor, nn
from torch.nn import functional


class EarlyFusionHead(SegformerHead):
    """mmsegmentation's `SegformerHead`, its weights, and its results up to rounding.

    Its fusion is a 1x1 convolution of all features, enlarged and joined. That is the sum of a 1x1 convolution of each, and
    enlarging commutes with it. So each feature is convolved at its own size, and only sums are as large as the largest.
    """

    convs: nn.ModuleList

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Logits (B, classes, H, W) of a backbone's features (B, C, H / s, W / s), the largest first."""
        fusion: Any = self.fusion_conv
        features = [convolution(one) for convolution, one in zip(self.convs, self._transform_inputs(inputs), strict=True)]
        weights = fusion.conv.weight.split(self.channels, dim=1)
        fused, *smaller = (functional.conv2d(one, weight) for one, weight in zip(features, weights, strict=True))
        for one in smaller:
            fused += resize(one, fused.shape[2:], mode=self.interpolate_mode, align_corners=self.align_corners)
        return self.cls_seg(fusion.activate(fusion.norm(fused)))
