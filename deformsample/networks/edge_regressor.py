"""The network of edge-optimal sampling (Marin et al. 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deformsample.conventions import Size
from deformsample.networks.unet import UNet


class EdgeRegressor(nn.Module):
    """Two stacked U-Nets from a thumbnail to the displacements of a coarse grid.

    The input of the second U-Net is the thumbnail and the output of the first.

    Args:
        coarse_size: (n, m) of the coarse grid, 8 x 8 in the paper; ``None`` for the thumbnail size.
        widths: channels of the levels of each U-Net, the finest first.
    """

    def __init__(
        self, coarse_size: Size | None = (8, 8), widths: Sequence[int] = (16, 32, 64, 64)
    ) -> None:
        super().__init__()
        self.coarse_size = coarse_size
        self.first = UNet(widths[0], widths)
        self.second = UNet(2, widths, in_channels=3 + widths[0])

    def forward(self, thumbnail: Tensor) -> Tensor:
        """Normalised thumbnail (b, 3, h, w) to displacements (b, 2, n, m), x first."""
        displacements: Tensor = self.second(torch.cat((thumbnail, self.first(thumbnail)), dim=1))
        if self.coarse_size is None:
            return displacements
        return F.adaptive_avg_pool2d(displacements, self.coarse_size)
