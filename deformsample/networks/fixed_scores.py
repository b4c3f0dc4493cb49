"""Scores that are the same for every image of a data set."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deformsample.conventions import Size


class FixedScores(nn.Module):
    """One learned map of scores, whatever the image shows.

    With :class:`deformsample.losses.BoundaryKLLoss` its density becomes the mean boundary density of
    the training set: the fixed saliency of LZU (Thavamani et al. 2023).

    Args:
        size: (h, w) of the map; it is interpolated to that of the thumbnail.
        channels: of the map, as the sampler needs them.
    """

    def __init__(self, size: Size = (32, 32), channels: int = 1) -> None:
        super().__init__()
        self.scores = nn.Parameter(torch.zeros(1, channels, *size))

    def forward(self, thumbnail: Tensor) -> Tensor:
        """Thumbnail (b, 3, h, w) to scores (b, channels, h, w)."""
        h, w = thumbnail.shape[2:]
        scores = F.interpolate(self.scores, (h, w), mode="bilinear", align_corners=True)
        return scores.expand(len(thumbnail), -1, -1, -1)
