"""Sampling near semantic boundaries (Marin et al. 2019, "Efficient Segmentation")."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from deformsample.conventions import Size
from deformsample.geometry import grid_density, identity_grid, resize_grid
from deformsample.samplers.sampler import Placement, Sampler


class EdgeOptimalSampler(Sampler):
    """A coarse grid regressed from the thumbnail, interpolated to the size of the small image.

    It is trained by :class:`deformsample.losses.EdgeGridLoss` in a separate stage, and then frozen
    (:class:`FrozenSampler`).

    Args:
        network: thumbnail (b, 3, h, w) to displacements (b, 2, n, m) of the points of the coarse
            grid from their uniform locations, x first, normalised.
    """

    display_name = "edge-optimal"

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @override
    def forward(self, thumbnail: Tensor, size: Size, labels: Tensor | None = None) -> Placement:
        displacements = self.network(thumbnail).float()
        grid = resize_grid(_displaced(displacements), size)
        return Placement(grid_density(grid, (thumbnail.shape[2], thumbnail.shape[3])), grid)


def _displaced(displacements: Tensor) -> Tensor:
    """The coarse grid; border points slide along the border, and all stay in the image."""
    n, m = displacements.shape[2:]
    dx, dy = displacements.unbind(1)
    uniform = identity_grid((n, m), displacements)
    x = torch.cat(
        (uniform[:, :, :1, 0], (uniform[..., 0] + dx)[:, :, 1:-1], uniform[:, :, -1:, 0]), 2
    )
    y = torch.cat((uniform[:, :1, :, 1], (uniform[..., 1] + dy)[:, 1:-1], uniform[:, -1:, :, 1]), 1)
    return torch.stack((x, y), dim=-1).clamp(-1, 1)
