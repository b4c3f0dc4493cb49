"""Learned sampling (Recasens et al. 2018; Jin et al. 2022)."""

from __future__ import annotations

from torch import Tensor, nn

from deformsample.errors import ArgumentError
from deformsample.geometry import Size, sampling_grid, softmax_density
from deformsample.geometry.kernel import MIN_SIGMA
from deformsample.samplers.base import Placement, Sampler


class LearnedSampler(Sampler):
    """A density map predicted by a network, and the grid that follows it.

    Args:
        network: thumbnail (b, 3, h, w) to scores (b, 1, h, w).
        sigma: width of the Gaussian kernel (its standard deviation), in cells of the density map.
    """

    title = "learned"

    def __init__(self, network: nn.Module, sigma: float = 2.0) -> None:
        super().__init__()
        if not sigma >= MIN_SIGMA:
            raise ArgumentError(f"Expected `sigma` of at least {MIN_SIGMA}, but got {sigma}.")
        self.network = network
        self.sigma = sigma

    def forward(self, thumbnail: Tensor, size: Size) -> Placement:
        """See :class:`Sampler`."""
        density = softmax_density(self.network(thumbnail).float())
        return Placement(density, sampling_grid(density, size, self.sigma))
