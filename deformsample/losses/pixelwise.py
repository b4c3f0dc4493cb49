"""Pixelwise losses."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deformsample.conventions import IGNORE_INDEX
from deformsample.errors import ArgumentError


class PixelLoss(nn.Module):
    """Weighted cross-entropy, and an optional auxiliary loss.

    Args:
        class_weights: one weight per class, or ``None`` for equal ones.
        aux_loss: a scalar loss of logits (b, k, h, w) and int64 labels (b, h, w), which are
            ``IGNORE_INDEX`` where there is no class; for example :class:`.LovaszLoss`, or one of
            ``segmentation_models_pytorch.losses`` with ``ignore_index=255``.
        aux_weight: factor of the auxiliary loss.
        cross_entropy_weight: factor of the cross-entropy.

    Example:
        >>> logits, labels = torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4, dtype=torch.long)
        >>> terms, losses = PixelLoss()(logits, labels)
        >>> round(float(terms["segmentation"]), 3), losses.shape
        (0.693, torch.Size([1, 4, 4]))
    """

    class_weights: Tensor | None

    def __init__(
        self,
        class_weights: Sequence[float] | None = None,
        aux_loss: nn.Module | None = None,
        aux_weight: float = 1.0,
        cross_entropy_weight: float = 1.0,
    ) -> None:
        super().__init__()
        weights = None if class_weights is None else torch.tensor([float(w) for w in class_weights])
        self.register_buffer("class_weights", weights, persistent=False)
        self.aux_loss = aux_loss
        self.aux_weight = aux_weight
        self.cross_entropy_weight = cross_entropy_weight

    def forward(self, logits: Tensor, labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Terms of the loss, and the cross-entropy of each pixel; see :func:`cross_entropy`.

        The terms are ``segmentation`` (the cross-entropy) and, with an ``aux_loss``, ``auxiliary``.
        """
        loss, losses = cross_entropy(logits, labels, self.class_weights)
        terms = {"segmentation": self.cross_entropy_weight * loss}
        if self.aux_loss is not None:
            # Some losses return an empty tensor where no pixel counts; its sum is 0.
            terms["auxiliary"] = self.aux_weight * self.aux_loss(logits, labels.long()).sum()
        return terms, losses


def cross_entropy(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Weighted mean of the cross-entropy over all labelled pixels.

    Args:
        logits: (b, k, h, w).
        labels: (b, h, w) class ids, or ``IGNORE_INDEX``.
        class_weights: (k,), or ``None``.

    Returns:
        A scalar (0 without labelled pixels), and the weighted loss of each pixel (b, h, w) without
        gradient.

    Example:
        >>> labels = torch.tensor([[[0, 255]]])  # one pixel without a class
        >>> loss, losses = cross_entropy(torch.zeros(1, 2, 1, 2), labels, None)
        >>> round(float(loss), 3), [round(value, 3) for value in losses.flatten().tolist()]
        (0.693, [0.693, 0.0])
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
    total = weights.sum()
    # Not `clamp_min(tiny)`, whose gradient would be 0 times infinity.
    mean = losses.sum() / total.where(total > 0, 1.0)
    return mean, losses.detach()
