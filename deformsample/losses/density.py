"""Losses on the density map alone, with targets made from the labels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deformsample.geometry import Size, boundary_density, density_of, min_max
from deformsample.losses.pixelwise import IGNORE_INDEX


class DensityTerm(nn.Module, ABC):
    """A loss on the density map alone: its distance from a target that is known in training.

    Args:
        weight: factor of the term in the sum of losses.
        final_weight: the factor at the end of training, reached linearly; ``None`` keeps it.
    """

    def __init__(self, weight: float, final_weight: float | None) -> None:
        super().__init__()
        self.weight = weight
        self.final_weight = weight if final_weight is None else final_weight

    def forward(self, density: Tensor, labels: Tensor, errors: Tensor, progress: float) -> Tensor:
        """Weighted distance of a density map to its target.

        Args:
            density: (b, 1, h, w), sum 1.
            labels: (b, H, W) class ids, ``IGNORE_INDEX`` where there is none.
            errors: (b, n, m), the segmentation loss at a lattice that covers the image.
            progress: how far training is, from 0 to 1.

        Returns:
            A scalar.
        """
        weight = self.weight + (self.final_weight - self.weight) * progress
        with torch.no_grad():
            target = self.target((density.shape[2], density.shape[3]), labels, errors)
        return weight * self.distance(density, target)

    @abstractmethod
    def target(self, size: Size, labels: Tensor, errors: Tensor) -> Tensor:
        """The target (b, 1, h, w) of a size, with sum 1; arguments as of ``forward``."""

    @abstractmethod
    def distance(self, density: Tensor, target: Tensor) -> Tensor:
        """Distance of two density maps (b, 1, h, w), a scalar."""


class EdgeTerm(DensityTerm):
    """A target that follows the label boundaries.

    Args:
        weight: as of :class:`DensityTerm`.
        final_weight: as of :class:`DensityTerm`.
        blur: standard deviation of the target's blur, in cells of the density map.
        floor: density of a cell without boundaries, relative to the map's mean, in (0, 1].
        class_weights: how much the boundary pixels of each class count; ``None`` for all alike.
    """

    def __init__(
        self,
        weight: float,
        final_weight: float | None,
        blur: float,
        floor: float,
        class_weights: Sequence[float] | None,
    ) -> None:
        super().__init__(weight, final_weight)
        self.blur = blur
        self.floor = floor
        self.class_weights = class_weights

    def target(self, size: Size, labels: Tensor, errors: Tensor) -> Tensor:
        """See :class:`DensityTerm`."""
        return boundary_density(
            labels,
            size,
            blur=self.blur,
            floor=self.floor,
            ignore_index=IGNORE_INDEX,
            class_weights=self.class_weights,
        )


class EdgeDivergence(EdgeTerm):
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
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(weight, final_weight, blur, floor, class_weights)

    def distance(self, density: Tensor, target: Tensor) -> Tensor:
        """See :class:`DensityTerm`."""
        return divergence(density, target)


class EdgeSquaredError(EdgeTerm):
    """Mean squared error of the min-max normalised maps (Jin et al. 2022, with weight 100)."""

    def __init__(
        self,
        weight: float = 100.0,
        final_weight: float | None = None,
        blur: float = 1.0,
        floor: float = 0.1,
        class_weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__(weight, final_weight, blur, floor, class_weights)

    def distance(self, density: Tensor, target: Tensor) -> Tensor:
        """See :class:`DensityTerm`."""
        return F.mse_loss(min_max(density), min_max(target))


class ErrorDivergence(DensityTerm):
    """Divergence of the density from that of the model's own errors.

    Where the density is proportional to the loss per area, every sample carries the same part of
    it: the equidistribution principle of adaptive meshes (de Boor 1974). It needs no edges.

    Args:
        weight: as of :class:`DensityTerm`.
        final_weight: as of :class:`DensityTerm`.
        blur: standard deviation of the target's blur, in cells of the density map.
        floor: density of a cell without errors, relative to the map's mean, in (0, 1].
    """

    def __init__(
        self,
        weight: float = 1.0,
        final_weight: float | None = None,
        blur: float = 0.5,
        floor: float = 0.03,
    ) -> None:
        super().__init__(weight, final_weight)
        self.blur = blur
        self.floor = floor

    def target(self, size: Size, labels: Tensor, errors: Tensor) -> Tensor:
        """See :class:`DensityTerm`."""
        return density_of(errors.unsqueeze(1), size, blur=self.blur, floor=self.floor)

    def distance(self, density: Tensor, target: Tensor) -> Tensor:
        """See :class:`DensityTerm`."""
        return divergence(density, target)


def divergence(density: Tensor, target: Tensor) -> Tensor:
    """Kullback-Leibler divergence of density maps (b, 1, h, w) from targets, in nats per image."""
    log_density = density.clamp_min(torch.finfo(density.dtype).tiny).log()
    return (target * (target.log() - log_density)).sum() / len(density)
