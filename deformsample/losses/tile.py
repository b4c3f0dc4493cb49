"""The loss of tiles."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from deformsample.losses.pixelwise import PixelLoss
from deformsample.segmenters import Prediction


class TileLoss(nn.Module):
    """Loss at the locations of the logits, such as all pixels of a tile.

    Args:
        class_weights: one weight per class, or ``None`` for equal ones.
        aux_loss: an auxiliary loss beside the cross-entropy, see :class:`PixelLoss`.
        aux_weight: factor of the auxiliary loss.
        cross_entropy_weight: factor of the cross-entropy; 0 trains with the auxiliary loss alone.
    """

    def __init__(
        self,
        class_weights: Sequence[float] | None = None,
        aux_loss: nn.Module | None = None,
        aux_weight: float = 1.0,
        cross_entropy_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.pixel_loss = PixelLoss(class_weights, aux_loss, aux_weight, cross_entropy_weight)

    def forward(self, prediction: Prediction, labels: Tensor, progress: float) -> dict[str, Tensor]:
        """The terms of :class:`PixelLoss`; arguments as in :class:`WarpedLoss`."""
        terms: dict[str, Tensor]
        terms, _ = self.pixel_loss(prediction.logits.float(), prediction.targets(labels))
        return terms
