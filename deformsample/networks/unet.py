"""A small U-Net (Ronneberger et al. 2015) that keeps every sample of a small image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deformsample.errors import ArgumentError
from deformsample.networks.head import upsampling_head


class UNet(nn.Module):
    """U-Net with two 3 x 3 convolutions per level, max pooling and bilinear upsampling.

    The output has the full resolution of the input, which can have any size. It is much cheaper
    than an HRNet, for comparing sampling methods on a CPU.

    Args:
        num_classes: number of output channels.
        widths: channels of the levels, from fine to coarse.
        in_channels: number of input channels.
        logit_upsampling: factor s of the output per side.
        dropout: dropout probability at the end of each encoder level, from fine to coarse; 0 for
            further levels.
        stride: stride of the first convolution. The network then works at 1 / stride of the
            resolution, and sees details of the full one.

    Example:
        >>> UNet(num_classes=5, widths=(8, 16))(torch.rand(1, 3, 33, 47)).shape
        torch.Size([1, 5, 33, 47])
    """

    def __init__(
        self,
        num_classes: int,
        widths: Sequence[int] = (24, 48, 96, 96),
        in_channels: int = 3,
        logit_upsampling: int = 1,
        dropout: Sequence[float] = (),
        stride: int = 1,
    ) -> None:
        super().__init__()
        if not widths or min(widths) < 1:
            raise ArgumentError(
                f"Expected `widths` to be positive channel counts, but got {list(widths)}."
            )
        if len(dropout) >= len(widths) or any(not 0 <= share < 1 for share in dropout):
            raise ArgumentError(
                "Expected `dropout` in [0, 1) for levels that are pooled, fewer than `widths`, but "
                f"got {list(dropout)} and {list(widths)}."
            )
        self.dropout = [*dropout, *[0.0] * (len(widths) - len(dropout))]
        if stride < 1:
            raise ArgumentError(f"Expected `stride` of at least 1, but got {stride}.")
        before = [in_channels, *widths]
        strides = [stride, *[1] * (len(widths) - 1)]
        self.down = nn.ModuleList(map(_level, before[:-1], widths, strides))
        self.up = nn.ModuleList(
            _level(coarse + fine, fine)
            for coarse, fine in zip(widths[:0:-1], widths[-2::-1], strict=True)
        )
        self.head = upsampling_head(widths[0], num_classes, logit_upsampling)

    def forward(self, image: Tensor) -> Tensor:
        """(b, in_channels, h, w) of any size to (b, num_classes, h', w').

        h' is (h - 1) s + 1 for the factor s of ``logit_upsampling``, w' likewise; h is rounded up
        after division by ``stride``.
        """
        skips: list[Tensor] = []
        x = image
        for level, share in zip(self.down, self.dropout, strict=True):
            x = level(F.max_pool2d(x, 2, ceil_mode=True) if skips else x)
            x = F.dropout(x, share, self.training) if share else x
            skips.append(x)
        for level, skip in zip(self.up, skips[-2::-1], strict=True):
            x = F.interpolate(x, skip.shape[2:], mode="bilinear", align_corners=True)
            x = level(torch.cat((x, skip), dim=1))
        logits: Tensor = self.head(x)
        return logits


def _level(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(*_convolution(before, after, stride), *_convolution(after, after))


def _convolution(before: int, after: int, stride: int = 1) -> list[nn.Module]:
    # An odd kernel without gaps: outputs are centred at every stride-th pixel.
    kernel = 2 * stride + 1
    return [
        nn.Conv2d(before, after, kernel, stride, padding=stride, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(inplace=True),
    ]
