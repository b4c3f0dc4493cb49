"""Density logits that are the same for every image of a data set."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deformsample.conventions import Size


class FixedDensityLogits(nn.Module):
    """One learned map of density logits, independent of the image.

    With :class:`deformsample.losses.BoundaryKLLoss`, the density becomes the mean boundary density
    of the training set. This is the fixed saliency of LZU (Thavamani et al. 2023).

    Args:
        size: (h, w) of the map; it is interpolated to the size of the thumbnail.
        channels: channels of the map; the sampler decides how many it needs.
    """

    def __init__(self, size: Size = (32, 32), channels: int = 1) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(1, channels, *size))

    def forward(self, thumbnail: Tensor) -> Tensor:
        """Thumbnail (b, 3, h, w) to density logits (b, channels, h, w)."""
        h, w = thumbnail.shape[2:]
        logits = F.interpolate(self.logits, (h, w), mode="bilinear", align_corners=True)
        return logits.expand(len(thumbnail), -1, -1, -1)
