"""The published loss: at the samples, with warped labels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from deformsample.errors import ArgumentError
from deformsample.losses.density_losses import DensityLoss
from deformsample.losses.pixelwise import PixelLoss
from deformsample.segmenters import SampledPrediction


class WarpedLoss(nn.Module):
    """Loss at the samples, with the labels warped to them (Jin et al. 2022).

    Regions count by their sampling density, and samples lower their loss by moving away from
    boundaries. :class:`FullResolutionLoss` avoids both.

    Args:
        class_weights: one weight per class, or ``None`` for equal ones.
        density: a density loss, or ``None``.
        aux_loss: an auxiliary loss beside the cross-entropy, see :class:`PixelLoss`.
        aux_weight: factor of the auxiliary loss.
    """

    needs_grid = True

    def __init__(
        self,
        class_weights: Sequence[float] | None = None,
        density: DensityLoss | None = None,
        aux_loss: nn.Module | None = None,
        aux_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if density is not None and density.needs_errors:
            raise ArgumentError(
                f"Expected a density loss that needs only labels, but got "
                f"{type(density).__name__}: it needs errors at full resolution, which only "
                "FullResolutionLoss has."
            )
        self.pixel_loss = PixelLoss(class_weights, aux_loss, aux_weight)
        self.density = density

    def forward(
        self, prediction: SampledPrediction, labels: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """All terms of the loss by name; training minimises their sum.

        Args:
            prediction: output of the segmenter.
            labels: (b, H, W) class ids of the full image, or ``IGNORE_INDEX``.
            progress: progress of training, from 0 to 1.

        Returns:
            The terms of :class:`PixelLoss`, and ``density`` if there is a density loss; scalars.
        """
        targets = prediction.targets(labels)
        terms: dict[str, Tensor]
        terms, _ = self.pixel_loss(prediction.logits.float(), targets)
        if self.density is not None:
            terms["density"] = self.density(prediction.sampled, labels, None, progress)
        return terms
