"""PSPNet (Zhao et al. 2017, "Pyramid Scene Parsing Network") on any backbone of timm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deformsample.errors import ArgumentError
from deformsample.networks.backbone import backbone


class PSPNet(nn.Module):
    """A backbone, its last features pooled at several scales, and a head that sees all of them.

    Args:
        num_classes: how many classes the logits have.
        name: of a backbone of timm with features.
        output_stride: samples per feature and side, 8, 16 or 32; 8 in the paper.
        bins: the pooled sizes, per side.
        channels: of the head.
        weights: ``None`` for random weights, ``"hub"`` for timm's ImageNet weights (downloaded once
            by timm), or the path of a file with such weights.
    """

    def __init__(
        self,
        num_classes: int,
        name: str = "resnet50",
        output_stride: Literal[8, 16, 32] = 8,
        bins: Sequence[int] = (1, 2, 3, 6),
        channels: int = 512,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        if num_classes < 2:
            raise ArgumentError(f"Expected `num_classes` of at least 2, but got {num_classes}.")
        self.trunk = backbone(name, weights, output_stride=output_stride)
        features = self.trunk.feature_info.channels()[-1]
        self.bins = tuple(bins)
        self.pooled = nn.ModuleList(
            nn.Sequential(*_convolution(features, features // len(bins), size=1)) for _ in bins
        )
        joined = features + features // len(bins) * len(bins)
        self.head = nn.Sequential(
            *_convolution(joined, channels, size=3),
            nn.Dropout2d(0.1),
            nn.Conv2d(channels, num_classes, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Normalised image (b, 3, h, w) of any size to logits (b, k, h, w)."""
        features = self.trunk(image)[-1]
        size = features.shape[2:]
        pyramid = [features]
        for bins, layer in zip(self.bins, self.pooled, strict=True):
            pooled = layer(F.adaptive_avg_pool2d(features, bins))
            pyramid.append(F.interpolate(pooled, size, mode="bilinear", align_corners=True))
        logits = self.head(torch.cat(pyramid, dim=1))
        return F.interpolate(logits, image.shape[2:], mode="bilinear", align_corners=True)


def _convolution(before: int, after: int, *, size: int) -> list[nn.Module]:
    # Group norm: a pooled map of one value has no batch statistics in a batch of one.
    return [
        nn.Conv2d(before, after, size, padding=size // 2, bias=False),
        nn.GroupNorm(min(32, after), after) if after % 32 == 0 else nn.GroupNorm(1, after),
        nn.ReLU(inplace=True),
    ]
