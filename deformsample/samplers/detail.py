"""Sampling by local detail of the image, without labels or training."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from deformsample.conventions import Size
from deformsample.geometry import density_of
from deformsample.samplers.grids import DensityGrid, TransportGrid
from deformsample.samplers.sampler import Placement, Sampler


class DetailSampler(Sampler):
    """A density proportional to local detail: differences of neighbouring thumbnail samples.

    Args:
        grid: grid from a density; ``None`` for :class:`TransportGrid`.
        blur: standard deviation of the blur of the density, in cells.
        floor: density of a cell without detail, relative to the map's mean, in (0, 1].

    Example:
        >>> thumbnail = torch.zeros(1, 3, 32, 48)
        >>> thumbnail[..., 24:] = 1.0  # one edge
        >>> density = DetailSampler()(thumbnail, (32, 48)).density[0, 0, 16]
        >>> bool(density[24] > density[0])
        True
    """

    display_name = "local detail"

    def __init__(
        self, grid: DensityGrid | None = None, blur: float = 1.0, floor: float = 0.1
    ) -> None:
        super().__init__()
        self.grid = TransportGrid() if grid is None else grid
        self.blur = blur
        self.floor = floor

    @override
    def forward(self, thumbnail: Tensor, size: Size, labels: Tensor | None = None) -> Placement:
        h, w = thumbnail.shape[2:]
        density = density_of(
            local_detail(thumbnail.detach()), (h, w), blur=self.blur, floor=self.floor
        )
        return Placement(density, self.grid(density, size))

    @override
    def regrid(self, density: Tensor, size: Size) -> Tensor:
        grid: Tensor = self.grid(density, size)
        return grid


def local_detail(image: Tensor) -> Tensor:
    """Brightness differences of each pixel (b, c, h, w) to its neighbours, (b, 1, h, w)."""
    grey = image.float().mean(dim=1, keepdim=True)
    detail = torch.zeros_like(grey)
    for dim in (2, 3):
        steps = grey.diff(dim=dim).abs() / 2
        length = grey.shape[dim]
        detail.narrow(dim, 0, length - 1).add_(steps)
        detail.narrow(dim, 1, length - 1).add_(steps)
    return detail
