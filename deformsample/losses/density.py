"""Losses on the density map alone, with targets made from the labels."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deformsample.geometry import boundary_density, min_max
from deformsample.losses.pixelwise import IGNORE_INDEX


class DensityTerm(nn.Module, ABC):
    """A loss on the density map alone, with a target made from the labels.

    Args:
        weight: factor of the term in the sum of losses.
        final_weight: the factor at the end of training, reached linearly; ``None`` keeps it.
        blur: standard deviation of the target's blur, in cells of the density map.
        floor: density of a cell without boundaries, relative to the map's mean, in (0, 1].
    """

    def __init__(
        self, weight: float, final_weight: float | None, blur: float, floor: float
    ) -> None:
        super().__init__()
        self.weight = weight
        self.final_weight = weight if final_weight is None else final_weight
        self.blur = blur
        self.floor = floor

    def forward(self, density: Tensor, labels: Tensor, progress: float) -> Tensor:
        """Weighted distance of a density map to the target for the labels.

        Args:
            density: (b, 1, h, w), sum 1.
            labels: (b, H, W) class ids, ``IGNORE_INDEX`` where there is none.
            progress: how far training is, from 0 to 1.

        Returns:
            A scalar.
        """
        weight = self.weight + (self.final_weight - self.weight) * progress
        h, w = density.shape[2:]
        target = boundary_density(
            labels, (h, w), blur=self.blur, floor=self.floor, ignore_index=IGNORE_INDEX
        )
        return weight * self.distance(density, target)

    @abstractmethod
    def distance(self, density: Tensor, target: Tensor) -> Tensor:
        """Distance of two density maps (b, 1, h, w), a scalar."""


class EdgeDivergence(DensityTerm):
    """Kullback-Leibler divergence of the density from the edge density, in nats per image.

    Both are distributions, so their scale needs no normalisation, and the gradient to the scores
    of a softmax density is simply the difference of the two.
    """

    def __init__(
        self,
        weight: float = 1.0,
        final_weight: float | None = None,
        blur: float = 0.5,
        floor: float = 0.03,
    ) -> None:
        super().__init__(weight, final_weight, blur, floor)

    def distance(self, density: Tensor, target: Tensor) -> Tensor:
        """See :class:`DensityTerm`."""
        log_density = density.clamp_min(torch.finfo(density.dtype).tiny).log()
        return (target * (target.log() - log_density)).sum() / len(density)


class EdgeSquaredError(DensityTerm):
    """Mean squared error of the min-max normalised maps (Jin et al. 2022, with weight 100)."""

    def __init__(
        self,
        weight: float = 100.0,
        final_weight: float | None = None,
        blur: float = 1.0,
        floor: float = 0.1,
    ) -> None:
        super().__init__(weight, final_weight, blur, floor)

    def distance(self, density: Tensor, target: Tensor) -> Tensor:
        """See :class:`DensityTerm`."""
        return F.mse_loss(min_max(density), min_max(target))
