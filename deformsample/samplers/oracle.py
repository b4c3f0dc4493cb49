"""Oracle samplers, which use the labels: upper bounds of methods."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor
from typing_extensions import override

from deformsample.conventions import IGNORE_INDEX, Size
from deformsample.errors import ArgumentError
from deformsample.geometry import (
    boundary_density,
    edge_optimal_grid,
    grid_density,
    nearest_boundary,
    resize_grid,
)
from deformsample.samplers.grids import DensityGrid, TransportGrid
from deformsample.samplers.sampler import Placement, Sampler


class OracleSampler(Sampler):
    """Places samples by the labels, in training, validation and test; it cannot predict."""

    def forward(self, thumbnail: Tensor, size: Size, labels: Tensor | None = None) -> Placement:
        """Place the samples by the labels.

        Raises:
            ArgumentError: there are no labels.
        """
        if labels is None:
            raise ArgumentError(
                f"Expected labels for {type(self).__name__}, which places samples by the ground "
                "truth: it can be trained, validated and tested, but not used on new images."
            )
        return self.from_labels(labels, (thumbnail.shape[2], thumbnail.shape[3]), size)

    @abstractmethod
    def from_labels(self, labels: Tensor, map_size: Size, size: Size) -> Placement:
        """Place the samples.

        Args:
            labels: (b, H, W) class ids, ``IGNORE_INDEX`` where there is none.
            map_size: (h', w') of the density map.
            size: (h, w) of the grid.
        """


class BoundaryDensityOracle(OracleSampler):
    """The boundary density of the labels.

    Args:
        grid: grid from a density; ``None`` for :class:`TransportGrid`.
        blur: standard deviation of the blur of the density, in cells.
        floor: density of a cell without boundaries, relative to the map's mean, in (0, 1].
    """

    display_name = "boundary density of the ground truth"

    def __init__(
        self,
        grid: DensityGrid | None = None,
        blur: float = 0.5,
        floor: float = 0.03,
    ) -> None:
        super().__init__()
        self.grid = TransportGrid() if grid is None else grid
        self.blur = blur
        self.floor = floor

    @override
    def from_labels(self, labels: Tensor, map_size: Size, size: Size) -> Placement:
        density = boundary_density(
            labels, map_size, blur=self.blur, floor=self.floor, ignore_index=IGNORE_INDEX
        )
        return Placement(density, self.grid(density, size))


class EdgeOptimalOracle(OracleSampler):
    """The target grid of Marin et al. 2019.

    Args:
        coarse_size: (n, m) of the solved grid, 8 x 8 in the paper; ``None`` for the size of the
            small image.
        smoothness: lambda of :func:`deformsample.geometry.edge_optimal_grid`.
    """

    display_name = "edge-optimal, from the ground truth"

    def __init__(
        self,
        coarse_size: Size | None = (8, 8),
        smoothness: float = 1.0,
    ) -> None:
        super().__init__()
        self.coarse_size = coarse_size
        self.smoothness = smoothness

    @override
    def from_labels(self, labels: Tensor, map_size: Size, size: Size) -> Placement:
        boundary = nearest_boundary(labels, self.coarse_size or size, IGNORE_INDEX)
        grid = resize_grid(edge_optimal_grid(boundary, self.smoothness), size)
        return Placement(grid_density(grid, map_size), grid)
