"""Sampling that is separable in x and y (Thavamani et al. 2023, "Learning to Zoom and Unzoom")."""

from __future__ import annotations

from torch import Tensor, nn

from deformsample.errors import ArgumentError
from deformsample.geometry import Size, sampling_grid, softmax_density
from deformsample.geometry.kernel import MIN_SIGMA
from deformsample.samplers.base import Placement, Sampler


class SeparableSampler(Sampler):
    """One density along x and one along y: the grid's lines stay straight, horizontal and vertical.

    The two are the marginals of a density map; their product gives a grid of two 1-D maps, which a
    1-D interpolation inverts. With :class:`deformsample.networks.FixedScores` it is the fixed
    saliency of a data set, with another network the density of each image.

    Args:
        network: thumbnail (b, 3, h, w) to scores (b, 1, h, w).
        sigma: width of the Gaussian kernel (its standard deviation), in cells of the density map.
    """

    title = "separable"

    def __init__(self, network: nn.Module, sigma: float = 2.0) -> None:
        super().__init__()
        if not sigma >= MIN_SIGMA:
            raise ArgumentError(f"Expected `sigma` of at least {MIN_SIGMA}, but got {sigma}.")
        self.network = network
        self.sigma = sigma

    def forward(self, thumbnail: Tensor, size: Size) -> Placement:
        """See :class:`Sampler`."""
        density = softmax_density(self.network(thumbnail).float())
        product = density.sum(dim=2, keepdim=True) * density.sum(dim=3, keepdim=True)
        return Placement(product, sampling_grid(product, size, self.sigma))
