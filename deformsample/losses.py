"""Losses of joint training, and the density terms that guide the sampler."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deformsample.errors import ArgumentError
from deformsample.geometry import boundary_density, min_max, sample_areas, warp_labels
from deformsample.segmenters import Prediction

IGNORE_INDEX = 255
"""The label of pixels without a class, everywhere in this package."""


class DensityTerm(nn.Module, ABC):
    """A loss on the density map alone, with a target made from the labels.

    Args:
        weight: factor of the term in the sum of losses.
        blur: standard deviation of the target's blur, in cells of the density map.
        floor: density of a cell without boundaries, relative to the map's mean, in (0, 1].
    """

    def __init__(self, weight: float, blur: float, floor: float) -> None:
        super().__init__()
        self.weight = weight
        self.blur = blur
        self.floor = floor

    def forward(self, density: Tensor, labels: Tensor) -> Tensor:
        """Weighted distance of a density map (b, 1, h, w) to the target for labels (b, H, W)."""
        h, w = density.shape[2:]
        target = boundary_density(
            labels, (h, w), blur=self.blur, floor=self.floor, ignore_index=IGNORE_INDEX
        )
        return self.weight * self.distance(density, target)

    @abstractmethod
    def distance(self, density: Tensor, target: Tensor) -> Tensor:
        """Distance of two density maps (b, 1, h, w), a scalar."""


class EdgeDivergence(DensityTerm):
    """Kullback-Leibler divergence of the density from the edge density, in nats per image.

    Both are distributions, so their scale needs no normalisation, and the gradient to the scores
    of a softmax density is simply the difference of the two.
    """

    def __init__(self, weight: float = 1.0, blur: float = 0.5, floor: float = 0.03) -> None:
        super().__init__(weight, blur, floor)

    def distance(self, density: Tensor, target: Tensor) -> Tensor:
        """See :class:`DensityTerm`."""
        log_density = density.clamp_min(torch.finfo(density.dtype).tiny).log()
        return (target * (target.log() - log_density)).sum() / len(density)


class EdgeSquaredError(DensityTerm):
    """Mean squared error of the min-max normalised maps (Jin et al. 2022, with weight 100)."""

    def __init__(self, weight: float = 100.0, blur: float = 1.0, floor: float = 0.1) -> None:
        super().__init__(weight, blur, floor)

    def distance(self, density: Tensor, target: Tensor) -> Tensor:
        """See :class:`DensityTerm`."""
        return F.mse_loss(min_max(density), min_max(target))


class WarpedLoss(nn.Module):
    """Cross-entropy at the samples, with the label that each sample finds in the image.

    Args:
        class_weights: one weight per class, or ``None`` for equal ones.
        area_weighted: weigh each sample by the area it stands for, which turns the mean over
            samples into one over the image. No gradient flows through the weights: samples would
            shrink the area of what they get wrong.
        density: a term that pulls the density map towards a target, or ``None``.
    """

    class_weights: Tensor | None

    def __init__(
        self,
        class_weights: Sequence[float] | None = None,
        area_weighted: bool = False,  # noqa: FBT001, FBT002 - always given by name, from a config
        density: DensityTerm | None = None,
    ) -> None:
        super().__init__()
        weights = None if class_weights is None else torch.tensor([float(w) for w in class_weights])
        self.register_buffer("class_weights", weights, persistent=False)
        self.area_weighted = area_weighted
        self.density = density

    def forward(self, prediction: Prediction, labels: Tensor) -> dict[str, Tensor]:
        """All terms of the loss, by name; their sum is what training minimises.

        Args:
            prediction: of the segmenter.
            labels: (b, H, W) class ids of the full image, ``IGNORE_INDEX`` where there is none.

        Returns:
            ``segmentation``, and ``density`` where there is such a term; scalars.
        """
        areas = sample_areas(prediction.grid).detach() if self.area_weighted else None
        small_labels = warp_labels(labels, prediction.grid.detach())
        terms = {
            "segmentation": cross_entropy(
                prediction.logits.float(), small_labels, self.class_weights, areas
            )
        }
        if self.density is not None:
            terms["density"] = self.density(prediction.density, labels)
        return terms


def cross_entropy(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None, sample_weights: Tensor | None
) -> Tensor:
    """Weighted mean of the cross-entropy over all pixels that have a class.

    Args:
        logits: (b, k, h, w).
        labels: (b, h, w) class ids, ``IGNORE_INDEX`` where there is none.
        class_weights: (k,), or ``None``.
        sample_weights: (b, h, w), or ``None``.

    Returns:
        A scalar; 0 where no pixel has a class.
    """
    classes = logits.shape[1]
    if class_weights is not None and len(class_weights) != classes:
        raise ArgumentError(
            f"Expected `class_weights` for {classes} classes, but got {len(class_weights)}."
        )
    labels = labels.long()
    losses = F.cross_entropy(
        logits, labels, class_weights, ignore_index=IGNORE_INDEX, reduction="none"
    )
    weights = (labels != IGNORE_INDEX).to(losses.dtype)
    if class_weights is not None:
        weights = weights * class_weights[labels.clamp_max(classes - 1)]
    if sample_weights is not None:
        losses, weights = losses * sample_weights, weights * sample_weights
    return losses.sum() / weights.sum().clamp_min(torch.finfo(losses.dtype).tiny)
