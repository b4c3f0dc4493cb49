"""Loss of the unwarped prediction, at full resolution."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deformsample.conventions import IGNORE_INDEX, Size
from deformsample.errors import ArgumentError
from deformsample.geometry import identity_grid, interpolate_mesh, inverse_coordinates
from deformsample.geometry.coordinates import axis
from deformsample.geometry.dispatch import is_readable
from deformsample.losses.density_losses import DensityLoss, Observed
from deformsample.losses.pixelwise import PixelLoss
from deformsample.segmenters import SampledPrediction


class FullResolutionLoss(nn.Module):
    """Loss of the unwarped logits, at a regular supervision grid of full-resolution pixels.

    Every region counts by its area, however densely it is sampled. The gradient can reach the
    sampling grid too, through the exact inverse of its mesh (implicit differentiation): samples
    move to where they bring the unwarped prediction closer to the labels. In training, the
    supervision grid starts at a random pixel in every step, so that all pixels count equally.

    Args:
        class_weights: one weight per class, or ``None`` for equal ones.
        points_per_sample: points of the supervision grid per sample and side, on average.
        grid_gradient: whether the gradient reaches the sampling grid.
        density: a density loss, or ``None``.
        aux_loss: an auxiliary loss beside the cross-entropy, see :class:`PixelLoss`.
        aux_weight: factor of the auxiliary loss.

    Example:
        >>> import deformsample
        >>> from deformsample.losses import BoundaryKLLoss
        >>> from deformsample.networks import UNet
        >>> model = deformsample.segmenter(UNet(num_classes=3), num_samples=(32, 48))
        >>> prediction = model.segmenter(torch.rand(1, 3, 256, 384))
        >>> labels = torch.zeros(1, 256, 384, dtype=torch.long)
        >>> list(FullResolutionLoss(density=BoundaryKLLoss())(prediction, labels, progress=0.0))
        ['segmentation', 'density']
    """

    needs_grid = True

    def __init__(
        self,
        class_weights: Sequence[float] | None = None,
        points_per_sample: float = 2.0,
        grid_gradient: bool = True,  # noqa: FBT001, FBT002 - always given by name, from a config
        density: DensityLoss | None = None,
        aux_loss: nn.Module | None = None,
        aux_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if not points_per_sample > 0:
            raise ArgumentError(
                f"Expected `points_per_sample` to be positive, but got {points_per_sample}."
            )
        self.pixel_loss = PixelLoss(class_weights, aux_loss, aux_weight)
        self.points_per_sample = points_per_sample
        self.grid_gradient = grid_gradient
        self.density = density

    def forward(
        self, prediction: SampledPrediction, labels: Tensor, progress: float
    ) -> dict[str, Tensor]:
        """All terms of the loss by name; arguments and result as in :class:`WarpedLoss`.

        The terms of the first of two passes begin with ``first_``.
        """
        sampled = prediction.sampled
        grid = prediction.grid if self.grid_gradient else prediction.grid.detach()
        terms, observed = self._segmentation(prediction.logits, grid, sampled.image, labels)
        if (first := sampled.first_logits) is not None:
            uniform = identity_grid((first.shape[2], first.shape[3]), first)
            others, _ = self._segmentation(first, uniform, sampled.density, labels)
            terms |= {f"first_{name}": term for name, term in others.items()}
        if self.density is not None:
            terms["density"] = self.density(sampled, labels, observed, progress)
        return terms

    def _segmentation(
        self, logits: Tensor, grid: Tensor, samples: Tensor, labels: Tensor
    ) -> tuple[dict[str, Tensor], Observed]:
        """The terms of logits at a grid, and what they observe; samples (b, c, h, w)."""
        height, width = labels.shape[1:]
        stride = supervision_stride(
            (height, width), (samples.shape[2], samples.shape[3]), self.points_per_sample
        )
        rows, targets = self._supervised(labels, 1, stride, grid)
        columns, targets = self._supervised(targets, 2, stride, grid)
        coordinates = inverse_coordinates(grid, rows, columns)
        unwarped = interpolate_mesh(logits.float(), coordinates)
        terms, losses = self.pixel_loss(unwarped, targets)
        return terms, Observed(unwarped.detach(), targets, losses, rows, columns)

    def _supervised(
        self, labels: Tensor, dim: int, stride: int, like: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The coordinates of the supervision grid along one axis, and the labels there.

        Where the start cannot be read, the number of coordinates does not depend on it: the last
        one can be repeated, without a label.
        """
        side = labels.shape[dim]
        line, first = axis(side, like), min(stride, side)
        if is_readable(labels) or not self.training:
            start = int(torch.randint(first, ())) if self.training else first // 2
            return line[start::stride], labels[(slice(None),) * dim + (slice(start, None, stride),)]
        start_there = torch.randint(first, (), device=labels.device)
        index = start_there + stride * torch.arange(-(-side // stride), device=labels.device)
        shape = [-1 if number == dim else 1 for number in range(labels.ndim)]
        inside = index < side
        index = index.where(inside, index - stride)
        known = inside.view(shape)
        return line[index], labels.index_select(dim, index).where(known, IGNORE_INDEX)


def supervision_stride(image_size: Size, sampled_size: Size, points_per_sample: float) -> int:
    """Stride in pixels for ``points_per_sample`` supervision points per sample and side."""
    pixels_per_sample = math.prod(image_size) / math.prod(sampled_size)
    return max(1, round(math.sqrt(pixels_per_sample) / points_per_sample))
