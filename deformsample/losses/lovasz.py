"""The Lovász-Softmax loss, a surrogate of the IoU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deformsample.conventions import IGNORE_INDEX
from deformsample.geometry.dispatch import is_readable


class LovaszLoss(nn.Module):
    """The Lovász extension of 1 - IoU, the mean over the classes of the batch (Berman et al. 2018).

    Equal to ``segmentation_models_pytorch.losses.LovaszLoss("multiclass", ignore_index=255)``. On a
    GPU, sizes do not depend on the labels, so that the host does not wait.

    Example:
        >>> labels = torch.tensor([[[0, 1]]])
        >>> logits = torch.tensor([[[[9.0, -9.0]], [[-9.0, 9.0]]]])  # certain, and right
        >>> round(float(LovaszLoss()(logits, labels)), 3)
        0.0
    """

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar; 0 without labelled pixels.

        Args:
            logits: (b, k, h, w).
            labels: (b, h, w) class ids, or ``IGNORE_INDEX``.
        """
        likely = logits.softmax(dim=1).movedim(1, -1).flatten(0, -2)
        labels = labels.flatten()
        known: Tensor | None = labels != IGNORE_INDEX
        if is_readable(logits):  # sorting fewer errors is faster
            likely, labels, known = likely[known], labels[known], None
        total, count = logits.new_zeros(()), logits.new_zeros(())
        for index in range(logits.shape[1]):
            true = labels == index
            occurs = true.any()
            if is_readable(logits) and not bool(occurs):
                continue
            total = total + _of_class(likely[:, index], true, known) * occurs
            count = count + occurs
        return total / count.clamp_min(1)


def _of_class(likely: Tensor, true: Tensor, known: Tensor | None) -> Tensor:
    """The loss of one class, whose probability and ground truth at n pixels are (n,)."""
    target = true.to(likely.dtype)
    errors = (target - likely).abs()
    if known is not None:
        # Pixels without a class come last, where they do not change the weights of the others.
        errors = errors.where(known, -1.0)
    ordered, order = errors.sort(descending=True)
    if known is not None:
        ordered = ordered.clamp_min(0)
    target = target[order]
    size = target.sum()
    jaccard = 1 - (size - target.cumsum(0)) / (size + (1 - target).cumsum(0))
    jaccard[1:] = jaccard.diff()
    return torch.dot(ordered, jaccard)
