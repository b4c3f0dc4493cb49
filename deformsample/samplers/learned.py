"""Learned sampling (Recasens et al. 2018; Jin et al. 2022)."""

from __future__ import annotations

from torch import Tensor, nn
from typing_extensions import override

from deformsample.conventions import Size
from deformsample.geometry import softmax_density
from deformsample.samplers.grids import DensityGrid, TransportGrid
from deformsample.samplers.sampler import Placement, Sampler


class LearnedSampler(Sampler):
    """A density map predicted by a network, and its grid.

    Args:
        network: thumbnail (b, 3, h, w) to density logits (b, 1, h, w).
        grid: grid from a density; ``None`` for :class:`TransportGrid`.

    Example:
        >>> import torch
        >>> from deformsample.networks import DeformationNet
        >>> placement = LearnedSampler(DeformationNet())(torch.rand(2, 3, 32, 48), (32, 48))
        >>> placement.density.shape, placement.grid.shape
        (torch.Size([2, 1, 32, 48]), torch.Size([2, 32, 48, 2]))
    """

    display_name = "learned"

    def __init__(self, network: nn.Module, grid: DensityGrid | None = None) -> None:
        super().__init__()
        self.network = network
        self.grid = TransportGrid() if grid is None else grid

    @override
    def forward(self, thumbnail: Tensor, size: Size, labels: Tensor | None = None) -> Placement:
        density = softmax_density(self.network(thumbnail).float())
        return Placement(density, self.grid(density, size))

    @override
    def regrid(self, density: Tensor, size: Size) -> Tensor:
        grid: Tensor = self.grid(density, size)
        return grid
