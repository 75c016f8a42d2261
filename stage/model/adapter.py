"""The Mask Guidance Adapter (III-D): refines the frozen network's noise estimate, given the mask of the defect."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class MaskGuidanceAdapter(nn.Module):
    """Maps a noise estimate (B, C, h, w) and a mask (B, 1, h, w) to a new noise estimate (B, C, h, w).

    Blocks of 3x3 convolution, batch normalisation and ReLU, then a 1x1 convolution to C. The order is the released code's;
    III-D lists the three in another. `residual`, for a small base, adds the result to the estimate, starting from no change;
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
        """The new noise estimate; the mask is repeated to C channels, as in the released code."""
        refined = self.project(self.blocks(torch.cat([eps, mask.expand_as(eps)], dim=1)))
        return eps + refined if self.residual else refined
