"""Sampling that is separable in x and y (Thavamani et al. 2023, "Learning to Zoom and Unzoom")."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from deformsample.conventions import Size
from deformsample.geometry import softmax_density
from deformsample.samplers.grids import DensityGrid, TransportGrid
from deformsample.samplers.sampler import Placement, Sampler


class SeparableSampler(Sampler):
    """One density along x and one along y: grid lines are straight, horizontal and vertical.

    The two densities are the marginals of a density map. The grid is a product of two 1-D maps,
    which 1-D interpolation inverts. :class:`deformsample.networks.FixedDensityLogits` as network
    gives the fixed saliency of a data set, any other network the density of each image.

    Bounds of the grid hold along each axis.

    Args:
        network: thumbnail (b, 3, h, w) to density logits (b, 1, h, w).
        grid: grid from a density; ``None`` for :class:`TransportGrid`.

    Example:
        >>> from deformsample.networks import DeformationNet
        >>> grid = SeparableSampler(DeformationNet())(torch.rand(1, 3, 32, 48), (32, 48)).grid
        >>> bool((grid[0, :, :, 0] == grid[0, 0, :, 0]).all())  # columns are straight
        True
    """

    display_name = "separable"

    def __init__(self, network: nn.Module, grid: DensityGrid | None = None) -> None:
        super().__init__()
        self.network = network
        self.grid = TransportGrid() if grid is None else grid

    @override
    def forward(self, thumbnail: Tensor, size: Size, labels: Tensor | None = None) -> Placement:
        density = softmax_density(self.network(thumbnail).float())
        across, down = density.sum(dim=2, keepdim=True), density.sum(dim=3, keepdim=True)
        x = self.grid(across.expand(-1, -1, 2, -1), (2, size[1]))[:, :1, :, 0]
        y = self.grid(down.expand(-1, -1, -1, 2), (size[0], 2))[:, :, :1, 1]
        grid = torch.stack(torch.broadcast_tensors(x, y), dim=-1)
        return Placement(down * across, grid)
