"""Losses that train the sampler, in addition to the segmentation loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from deformsample.conventions import IGNORE_INDEX
from deformsample.errors import ArgumentError
from deformsample.geometry import boundary_density, min_max
from deformsample.samplers.downsampler import Downsampled


class Observed(NamedTuple):
    """The prediction at points of the full image, without gradient."""

    logits: Tensor
    """(b, k, n, m)."""

    labels: Tensor
    """(b, n, m) class ids, or ``IGNORE_INDEX``."""

    losses: Tensor
    """(b, n, m), the weighted cross-entropy of each point; 0 for points without a class."""

    rows: Tensor
    """(n,) normalised y of the points, ascending."""

    columns: Tensor
    """(m,) normalised x of the points, ascending."""


class DensityLoss(nn.Module, ABC):
    """A loss that trains the sampler, with targets from the labels or from observed errors.

    Args:
        weight: factor in the sum of losses.
        final_weight: factor at the end of training, reached linearly; ``None`` for a constant one.
        class_weights: weights of the pixels of each class for the sampler, or ``balanced`` for
            (share of the class in the training split)^-0.5; ``None`` for equal weights.
        important: further factors by name of the class; 1 for other classes.
    """

    needs_errors = False
    """Whether the loss needs the errors at full resolution of :class:`FullResolutionLoss`."""

    class_factors: Tensor | None

    def __init__(
        self,
        weight: float,
        final_weight: float | None = None,
        class_weights: Sequence[float] | Literal["balanced"] | None = None,
        important: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__()
        self.weight = weight
        self.final_weight = weight if final_weight is None else final_weight
        self.class_weights = class_weights
        self.important = dict(important or {})
        listed = None if class_weights == "balanced" or class_weights is None else class_weights
        factors = None if listed is None else torch.tensor([float(w) for w in listed])
        self.register_buffer("class_factors", factors, persistent=False)
        self._prepared = class_weights != "balanced" and not self.important

    def prepare(self, classes: Sequence[str], shares: Callable[[], Sequence[float]]) -> None:
        """Resolve ``balanced`` and names of classes; the task calls this before a fit.

        Args:
            classes: names of the classes in the order of the ids.
            shares: returns the share of each class in the labelled pixels of the training split;
                called only for ``balanced``.

        Raises:
            ArgumentError: an unknown class, or different numbers of weights and classes.
        """
        if unknown := sorted(set(self.important) - set(classes)):
            raise ArgumentError(
                f"Expected `important` to name classes of {list(classes)}, but got {unknown}."
            )
        if self.class_weights is None and not self.important:
            return
        if self.class_weights == "balanced":
            areas = torch.tensor([float(share) for share in shares()], dtype=torch.float64)
            # A class without pixels has the weight of the rarest class.
            base = areas.where(areas > 0, areas[areas > 0].min()).rsqrt()
        else:
            base = torch.tensor([float(w) for w in self.class_weights or [1.0] * len(classes)])
        if len(base) != len(classes):
            raise ArgumentError(
                f"Expected `class_weights` of the density loss for {len(classes)} classes, but got "
                f"{len(base)}."
            )
        factors = base * torch.tensor([self.important.get(name, 1.0) for name in classes])
        self.class_factors = (factors / factors.mean()).float()
        self._prepared = True

    def factors(self, device: torch.device) -> Tensor | None:
        """One factor per class, or ``None`` for equal factors.

        Raises:
            ArgumentError: ``prepare`` was not called.
        """
        if not self._prepared:
            raise ArgumentError(
                f"Expected {type(self).__name__}.prepare(classes, shares) to be called first: "
                "`balanced` and `important` need the classes of the data set."
            )
        if self.class_factors is not None and self.class_factors.device != device:
            self.class_factors = self.class_factors.to(device)
        return self.class_factors

    def forward(
        self, sampled: Downsampled, labels: Tensor, observed: Observed | None, progress: float
    ) -> Tensor:
        """The weighted loss, a scalar.

        Args:
            sampled: output of the downsampler.
            labels: (b, H, W) class ids of the full image, or ``IGNORE_INDEX``.
            observed: the prediction at full resolution, if the segmentation loss computes it.
            progress: progress of training, from 0 to 1.
        """
        weight = self.weight + (self.final_weight - self.weight) * progress
        return weight * self.loss(sampled, labels, observed)

    @abstractmethod
    def loss(self, sampled: Downsampled, labels: Tensor, observed: Observed | None) -> Tensor:
        """The loss without its factor; arguments as in ``forward``."""


class BoundaryLoss(DensityLoss):
    """Distance of the density to the boundary density of the labels.

    Args:
        weight: as in :class:`DensityLoss`.
        final_weight: as in :class:`DensityLoss`.
        blur: standard deviation of the blur of the target, in cells of the density map.
        floor: density of a cell without boundaries, relative to the map's mean, in (0, 1].
        class_weights: as in :class:`DensityLoss`, for the boundary pixels of each class.
        important: as in :class:`DensityLoss`.
    """

    def __init__(
        self,
        weight: float,
        final_weight: float | None,
        blur: float,
        floor: float,
        class_weights: Sequence[float] | Literal["balanced"] | None,
        important: Mapping[str, float] | None,
    ) -> None:
        super().__init__(weight, final_weight, class_weights, important)
        self.blur = blur
        self.floor = floor

    @override
    def loss(self, sampled: Downsampled, labels: Tensor, observed: Observed | None) -> Tensor:
        density = sampled.density
        with torch.no_grad():
            target = boundary_density(
                labels,
                (density.shape[2], density.shape[3]),
                blur=self.blur,
                floor=self.floor,
                ignore_index=IGNORE_INDEX,
                class_weights=self.factors(labels.device),
            )
        return self.distance(density, target)

    @abstractmethod
    def distance(self, density: Tensor, target: Tensor) -> Tensor:
        """The distance of two density maps (b, 1, h, w), a scalar."""


class BoundaryKLLoss(BoundaryLoss):
    """Kullback-Leibler divergence from the density to the boundary density, in nats per image.

    Both are distributions, so no normalisation is needed. The gradient with respect to the logits
    of a softmax density is the difference of the two.
    """

    def __init__(
        self,
        weight: float = 1.0,
        final_weight: float | None = None,
        blur: float = 0.5,
        floor: float = 0.03,
        class_weights: Sequence[float] | Literal["balanced"] | None = None,
        important: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(weight, final_weight, blur, floor, class_weights, important)

    @override
    def distance(self, density: Tensor, target: Tensor) -> Tensor:
        log_density = density.clamp_min(torch.finfo(density.dtype).tiny).log()
        return (target * (target.log() - log_density)).sum() / len(density)


class BoundaryMSELoss(BoundaryLoss):
    """Mean squared error of the min-max normalised maps (Jin et al. 2022, with weight 100)."""

    def __init__(
        self,
        weight: float = 100.0,
        final_weight: float | None = None,
        blur: float = 1.0,
        floor: float = 0.1,
        class_weights: Sequence[float] | Literal["balanced"] | None = None,
        important: Mapping[str, float] | None = None,
    ) -> None:
        super().__init__(weight, final_weight, blur, floor, class_weights, important)

    @override
    def distance(self, density: Tensor, target: Tensor) -> Tensor:
        return F.mse_loss(min_max(density), min_max(target))
