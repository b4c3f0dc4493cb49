"""The loss of the edge-optimal sampler (Marin et al. 2019)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from deformsample.conventions import IGNORE_INDEX, Size
from deformsample.geometry import edge_optimal_grid, nearest_boundary, resize_grid
from deformsample.segmenters import SampledPrediction


class EdgeGridLoss(nn.Module):
    """Mean squared distance to the edge-optimal grid; the segmentation network is not trained.

    Args:
        coarse_size: (n, m) of the solved grid, 8 x 8 in the paper; ``None`` for the size of the
            predicted grid.
        smoothness: lambda of :func:`deformsample.geometry.edge_optimal_grid`.
    """

    needs_grid = True

    def __init__(self, coarse_size: Size | None = (8, 8), smoothness: float = 1.0) -> None:
        super().__init__()
        self.coarse_size = coarse_size
        self.smoothness = smoothness

    def forward(
        self, prediction: SampledPrediction, labels: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """The term ``grid``; arguments as in :class:`WarpedLoss`."""
        grid = prediction.sampled.grid
        size = (grid.shape[1], grid.shape[2])
        boundary = nearest_boundary(labels, self.coarse_size or size, IGNORE_INDEX)
        target = resize_grid(edge_optimal_grid(boundary, self.smoothness), size)
        return {"grid": F.mse_loss(grid, target)}
