"""The loss that counts: of the prediction after it is put back into the full image."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.geometry import interpolate_mesh, inverse_coordinates
from deformsample.geometry.coordinates import axis
from deformsample.losses.density_losses import DensityLoss, Observed
from deformsample.losses.pixelwise import PixelLoss
from deformsample.segmenters import SampledPrediction


class FullResolutionLoss(nn.Module):
    """Loss of the unwarped logits, at a lattice of the full image's pixels.

    Every part of the image counts by its area, however densely it is sampled. The gradient reaches
    the sampling grid as well, through the exact inverse of its mesh by implicit differentiation:
    samples move to where their moving brings the unwarped prediction closer to the labels, which is
    what a loss at the samples cannot tell. The lattice starts at a random pixel in every training
    step, so that all pixels count alike.

    Args:
        class_weights: one weight per class, or ``None`` for equal ones.
        lattice: points per sample and side, in the mean over the image.
        grid_gradient: let the gradient pass to the sampling grid.
        density: a density loss, or ``None``.
        aux_loss: an auxiliary loss beside the cross-entropy, see :class:`PixelLoss`.
        aux_weight: its factor.
    """

    needs_grid = True

    def __init__(
        self,
        class_weights: Sequence[float] | None = None,
        lattice: float = 2.0,
        grid_gradient: bool = True,  # noqa: FBT001, FBT002 - always given by name, from a config
        density: DensityLoss | None = None,
        aux_loss: nn.Module | None = None,
        aux_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not lattice > 0:
            raise ArgumentError(f"Expected `lattice` above 0 points per sample, but got {lattice}.")
        self.pixel_loss = PixelLoss(class_weights, aux_loss, aux_weight)
        self.lattice = lattice
        self.grid_gradient = grid_gradient
        self.density = density

    def forward(
        self, prediction: SampledPrediction, labels: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """All terms of the loss, by name; arguments and result as of :class:`WarpedLoss`."""
        grid = prediction.grid if self.grid_gradient else prediction.grid.detach()
        height, width = labels.shape[1:]
        samples = (prediction.sampled.image.shape[2], prediction.sampled.image.shape[3])
        step = lattice_step((height, width), samples, self.lattice)
        y, x = self._start(min(step, height)), self._start(min(step, width))
        rows, columns = axis(height, grid)[y::step], axis(width, grid)[x::step]
        coordinates = inverse_coordinates(grid, rows, columns)
        logits = interpolate_mesh(prediction.logits.float(), coordinates)
        targets = labels[:, y::step, x::step]
        terms: dict[str, Tensor]
        terms, losses = self.pixel_loss(logits, targets)
        if self.density is not None:
            observed = Observed(logits.detach(), targets, losses, rows, columns)
            terms["density"] = self.density(prediction.sampled, labels, observed, progress)
        return terms

    def _start(self, step: int) -> int:
        return int(torch.randint(step, ())) if self.training else step // 2


def lattice_step(image_size: Size, sampled_size: Size, lattice: float) -> int:
    """Pixels from one lattice point to the next, for ``lattice`` points per sample and side."""
    pixels_per_sample = math.prod(image_size) / math.prod(sampled_size)
    return max(1, round(math.sqrt(pixels_per_sample) / lattice))
