"""The Mask Guidance Adapter (III-D): refines the frozen network's noise estimate, knowing where the defect is to be."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MaskGuidanceAdapter(nn.Module):
    """Noise estimate (B, C, h, w) and mask (B, 1, h, w) to a new noise estimate (B, C, h, w).

    Blocks of 3x3 convolution, batch normalisation and ReLU, then 1x1 to C (the order is the released code's; III-D names
    the three in another). `residual` adds the result to the estimate and starts from no change: the case of a small base;
    the paper replaces the estimate.
    """

    def __init__(self, channels: int, widths: Sequence[int], *, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        blocks: list[nn.Module] = []
        for before, after in zip([2 * channels, *widths], widths, strict=False):
            blocks += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.blocks = nn.Sequential(*blocks)
        self.project = nn.Conv2d(widths[-1], channels, 1)
        if residual:
            for parameter in self.project.parameters():
                nn.init.zeros_(parameter)

    def forward(self, eps: Tensor, mask: Tensor) -> Tensor:
        """The mask is repeated to C channels, as in the released code."""
        refined = self.project(self.blocks(torch.cat([eps, mask.expand_as(eps)], dim=1)))
        return eps + refined if self.residual else refined
