"""Uniform sampling: the standard baseline."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from deformsample.conventions import Size
from deformsample.geometry import identity_grid, transport_grid, uniform_density
from deformsample.samplers.sampler import Placement, Sampler


class UniformSampler(Sampler):
    """Equally spaced samples from border to border.

    Example:
        >>> import torch
        >>> UniformSampler()(torch.zeros(1, 3, 32, 48), (32, 48)).grid.shape
        torch.Size([1, 32, 48, 2])
    """

    display_name = "uniform"
    needs_thumbnail = False

    @override
    def forward(self, thumbnail: Tensor, size: Size, labels: Tensor | None = None) -> Placement:
        h, w = thumbnail.shape[2:]
        return Placement(uniform_density((h, w), thumbnail), identity_grid(size, thumbnail))

    @override
    def regrid(self, density: Tensor, size: Size) -> Tensor:
        return transport_grid(density, size)
