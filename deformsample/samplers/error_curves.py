"""Sampling by learned error curves, which allocate samples to reduce the error most."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.geometry import ErrorCurves, best_density
from deformsample.geometry.allocation import check_bounds
from deformsample.samplers.grids import DensityGrid, TransportGrid
from deformsample.samplers.sampler import Placement, Sampler

_MAX_ELASTICITY = 1.5
_MIN_ELASTICITY = 1e-3
_FIELD_CELLS = (24, 6)
"""Cells of the density map from one node of a random field to the next."""


class ErrorCurveSampler(Sampler):
    """Predicts the error as a function of sampling density, and minimises the total error.

    The network predicts an error curve e = a rho^-b for each cell of the density map. The density
    that minimises the sum of the errors has a closed form
    (:func:`deformsample.geometry.best_density`). No gradient passes through the grid: the curves
    are fitted to the observed segmentation errors by :class:`deformsample.losses.ErrorCurveLoss`.
    In training, the density is multiplied by a smooth random field, so that errors are observed at
    many densities.

    Args:
        network: thumbnail (b, 3, h, w) to (b, 2, h, w): log a, and the logit of b / 1.5.
        grid: grid from a density; ``None`` for :class:`TransportGrid`.
        minimum: lower bound of the density relative to uniform sampling.
        maximum: upper bound of the density relative to uniform sampling.
        perturbation: standard deviation of the log of the random field at its nodes in training; 0
            for none.

    Example:
        >>> from deformsample.networks import UNet
        >>> sampler = ErrorCurveSampler(UNet(num_classes=2, widths=(8, 16))).eval()
        >>> placement = sampler(torch.rand(1, 3, 32, 48), (32, 48))
        >>> placement.curves.elasticity.shape
        torch.Size([1, 1, 32, 48])
    """

    display_name = "error curves"

    def __init__(
        self,
        network: nn.Module,
        grid: DensityGrid | None = None,
        minimum: float = 0.1,
        maximum: float = 20.0,
        perturbation: float = 0.5,
    ) -> None:
        super().__init__()
        check_bounds(minimum, maximum)
        if not perturbation >= 0:
            raise ArgumentError(f"Expected `perturbation` of at least 0, but got {perturbation}.")
        self.network = network
        self.grid = TransportGrid() if grid is None else grid
        self.minimum = minimum
        self.maximum = maximum
        self.perturbation = perturbation

    @override
    def forward(self, thumbnail: Tensor, size: Size, labels: Tensor | None = None) -> Placement:
        curves = self.curves(thumbnail)
        density = best_density(curves, minimum=self.minimum, maximum=self.maximum)
        if self.training and self.perturbation > 0:
            field = random_field(density, self.perturbation)
            density = (density * field.exp()).clamp(self.minimum, self.maximum)
            curves = curves._replace(field=field)
        density = density / density.sum(dim=(2, 3), keepdim=True)
        return Placement(density, self.grid(density, size), curves)

    @override
    def regrid(self, density: Tensor, size: Size) -> Tensor:
        grid: Tensor = self.grid(density, size)
        return grid

    def curves(self, thumbnail: Tensor) -> ErrorCurves:
        """The error curves of a thumbnail (b, 3, h, w), normalised."""
        predicted = self.network(thumbnail).float()
        if predicted.shape[1] != 2:
            raise ArgumentError(
                "Expected a network with 2 output channels for ErrorCurveSampler, but got "
                f"{predicted.shape[1]}."
            )
        log_error, logit = predicted.split(1, dim=1)
        return ErrorCurves(log_error, _MIN_ELASTICITY + _MAX_ELASTICITY * logit.sigmoid())


def random_field(like: Tensor, deviation: float) -> Tensor:
    """A smooth random field of shape (b, 1, h, w).

    The sum of two fields, each normal at the nodes of a coarse grid and bilinear between them.
    """
    h, w = like.shape[2:]
    field = torch.zeros_like(like)
    for cells in _FIELD_CELLS:
        nodes = max(2, round(h / cells) + 1), max(2, round(w / cells) + 1)
        values = torch.randn(len(like), 1, *nodes, device=like.device, dtype=like.dtype)
        field = field + F.interpolate(values, (h, w), mode="bilinear", align_corners=True)
    return deviation * field
