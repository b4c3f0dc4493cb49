"""Outputs of segmenters."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.profiler import record_function
from torch.nn import functional as F

from deformsample.conventions import IGNORE_INDEX, Size
from deformsample.errors import ArgumentError
from deformsample.geometry import guided_labels, identity_grid, unwarp_labels, warp_labels
from deformsample.samplers.downsampler import Downsampled, check_finite


class Prediction(Protocol):
    """The output of a segmenter."""

    @property
    def logits(self) -> Tensor:
        """(b, k, h, w)."""

    @property
    def sampled(self) -> Downsampled:
        """The input of the network."""

    def labels(self, size: Size) -> Tensor:
        """The class of every pixel of the full image of size (H, W): (b, H, W) uint8."""

    def targets(self, labels: Tensor) -> Tensor:
        """The ground truth at each logit, (b, h, w), from labels (b, H, W) of the image."""


class SampledPrediction(NamedTuple):
    """Logits at sampling locations."""

    logits: Tensor
    """(b, k, h, w), at the samples, or finer with logit upsampling."""

    grid: Tensor
    """Locations of the logits, (b, h, w, 2)."""

    sampled: Downsampled
    """The input of the network."""

    def labels(self, size: Size) -> Tensor:
        """The class of every pixel of the full image of size (H, W): (b, H, W) uint8.

        Raises:
            SamplingError: the grid has non-finite coordinates.
        """
        if not torch.compiler.is_compiling():
            check_finite(self.grid, "the sampler")
        with record_function("unwarp"):
            return unwarp_labels(self.logits.float(), self.grid, size)

    def guided_labels(self, image: Tensor) -> Tensor:
        """The class of every pixel of the image (b, 3, H, W), with boundaries along its colours.

        See :func:`.geometry.guided_labels`.
        """
        with record_function("unwarp"):
            return guided_labels(self.logits, self.grid, self.sampled.image, image)

    def targets(self, labels: Tensor) -> Tensor:
        """The ground truth at each logit, (b, h, w), from labels (b, H, W) of the image."""
        return warp_labels(labels, self.grid.detach())


class TilePrediction(NamedTuple):
    """Logits of a region of each image: a tile in training, otherwise the whole image."""

    logits: Tensor
    """(b, k, h, w), at the pixels of the region."""

    image: Tensor
    """The region (b, 3, h, w) in [0, 1]."""

    corners: Tensor
    """(b, 2), first row and first column of the region in its image."""

    @property
    def sampled(self) -> Downsampled:
        """The region, in which every pixel is a sample."""
        size = (self.image.shape[2], self.image.shape[3])
        density = self.image.new_ones(len(self.image), 1, 1, 1)
        return Downsampled(self.image, identity_grid(size, self.image), density)

    def labels(self, size: Size) -> Tensor:
        """The class of every pixel, (b, H, W) uint8; for whole images only."""
        if size != self.logits.shape[2:]:
            raise ArgumentError(
                f"Expected the prediction of a whole image of {size}, but got that of a tile of "
                f"{tuple(self.logits.shape[2:])}: segment in eval mode."
            )
        return self.logits.argmax(dim=1).to(torch.uint8)

    def targets(self, labels: Tensor) -> Tensor:
        """The ground truth of every pixel of the region, (b, h, w), from labels (b, H, W)."""
        h, w = self.logits.shape[2:]
        missing = (max(0, h - labels.shape[1]), max(0, w - labels.shape[2]))
        padded = F.pad(labels, (0, missing[1], 0, missing[0]), value=IGNORE_INDEX)
        return torch.stack(
            [
                single[top : top + h, left : left + w]
                for single, (top, left) in zip(padded, self.corners.tolist(), strict=True)
            ]
        )
