"""Sampling grids from density maps."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn
from typing_extensions import override

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.geometry import sampling_grid, transport_grid
from deformsample.geometry.gaussian import MIN_SIGMA
from deformsample.geometry.transport import check_parameters


class DensityGrid(nn.Module, ABC):
    """Places samples according to a density map."""

    @abstractmethod
    def forward(self, density: Tensor, size: Size) -> Tensor:
        """Place the samples.

        Args:
            density: (b, 1, h, w), not negative; its scale does not matter.
            size: (h, w) of the grid.

        Returns:
            Grid (b, h, w, 2) over the whole image; border samples lie on the image border.
        """


class TransportGrid(DensityGrid):
    """A grid whose sampling density equals the density map.

    See :func:`deformsample.geometry.transport_grid`.

    Args:
        minimum: lower bound of the sampling density relative to uniform sampling, in (0, 1]. The
            sample spacing is at most 1 / sqrt(minimum) times the uniform spacing.
        iterations: number of solver iterations.

    Example:
        >>> import torch
        >>> TransportGrid(minimum=0.3)(torch.rand(1, 1, 32, 48), (64, 96)).shape
        torch.Size([1, 64, 96, 2])
    """

    def __init__(self, minimum: float = 0.1, iterations: int = 8) -> None:
        super().__init__()
        check_parameters(minimum, iterations)
        self.minimum = minimum
        self.iterations = iterations

    @override
    def forward(self, density: Tensor, size: Size) -> Tensor:
        return transport_grid(density, size, minimum=self.minimum, iterations=self.iterations)


class GaussianGrid(DensityGrid):
    """A grid of weighted means of positions (Recasens et al. 2018; Jin et al. 2022).

    See :func:`deformsample.geometry.sampling_grid`. Samples move by a few ``sigma`` at most, so
    the sampling density follows the density map only roughly.

    Args:
        sigma: standard deviation of the Gaussian kernel, in cells of the density map.

    Example:
        >>> import torch
        >>> GaussianGrid(sigma=2.0)(torch.rand(1, 1, 32, 48), (64, 96)).shape
        torch.Size([1, 64, 96, 2])
    """

    def __init__(self, sigma: float = 2.0) -> None:
        super().__init__()
        if not sigma >= MIN_SIGMA:
            raise ArgumentError(f"Expected `sigma` of at least {MIN_SIGMA}, but got {sigma}.")
        self.sigma = sigma

    @override
    def forward(self, density: Tensor, size: Size) -> Tensor:
        return sampling_grid(density, size, self.sigma)
