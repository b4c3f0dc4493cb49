"""The Dice coefficient as a loss."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from deformsample.conventions import IGNORE_INDEX


class NegativeLogDice(nn.Module):
    """-log((2 sum p t + s) / (sum p + sum t + s)), the mean over all classes but the first.

    Reina and Panchumarthy (2018), equations 1 and 2: p are probabilities, t is 1 for the true
    class, sums are over all pixels of a batch, and the smoothing s avoids 0 / 0. The first class is
    the background: with two classes, this is the loss of the paper.

    Args:
        smoothing: s, positive; 1 in the paper.

    Example:
        >>> labels = torch.tensor([[[0, 1]]])
        >>> logits = torch.tensor([[[[9.0, -9.0]], [[-9.0, 9.0]]]])  # certain, and right
        >>> round(abs(float(NegativeLogDice()(logits, labels))), 3)
        0.0
    """

    def __init__(self, smoothing: float = 1.0) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            logits: (b, k, h, w) of at least two classes.
            labels: (b, h, w) int64 class ids, or ``IGNORE_INDEX``.
        """
        known = labels != IGNORE_INDEX
        true = F.one_hot(labels.where(known, 0), logits.shape[1]).movedim(-1, 1)[:, 1:]
        counted = known[:, None].to(logits.dtype)
        true, likely = true * counted, logits.softmax(dim=1)[:, 1:] * counted
        dims = (0, 2, 3)
        overlap, total = (true * likely).sum(dims), (true + likely).sum(dims)
        return -torch.log((2 * overlap + self.smoothing) / (total + self.smoothing)).mean()
