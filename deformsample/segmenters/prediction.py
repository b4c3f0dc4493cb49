"""What segmenters know of an image after their forward pass."""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.autograd.profiler import record_function
from torch.nn import functional as F

from deformsample.conventions import IGNORE_INDEX, Size
from deformsample.errors import ArgumentError
from deformsample.geometry import identity_grid, unwarp_labels, warp_labels
from deformsample.samplers.downsampler import Downsampled


class Prediction(Protocol):
    """What a segmenter knows of an image after its forward pass."""

    @property
    def logits(self) -> Tensor:
        """(b, k, h, w), wherever in the image they are."""

    @property
    def sampled(self) -> Downsampled:
        """What of the image was looked at."""

    def labels(self, size: Size) -> Tensor:
        """The class of every pixel of the full image of a size (H, W), (b, H, W) uint8."""

    def targets(self, labels: Tensor) -> Tensor:
        """The true class where each logit is, (b, h, w), from labels (b, H, W) of the image."""


class SampledPrediction(NamedTuple):
    """What a segmenter knows of an image after its forward pass."""

    logits: Tensor
    """(b, k, h, w), one for each sample, or more where the network's head refines them."""

    grid: Tensor
    """Where the logits are, (b, h, w, 2)."""

    sampled: Downsampled
    """What the network saw of the image."""

    def labels(self, size: Size) -> Tensor:
        """The class of every pixel of the full image of a size (H, W), (b, H, W) uint8."""
        with record_function("unwarp"):
            return unwarp_labels(self.logits.float(), self.grid, size)

    def targets(self, labels: Tensor) -> Tensor:
        """The true class where each logit is, (b, h, w), from labels (b, H, W) of the image."""
        return warp_labels(labels, self.grid.detach())


class TilePrediction(NamedTuple):
    """What is known of one part of each image: a tile in training, else the whole."""

    logits: Tensor
    """(b, k, h, w), one for each pixel of the part."""

    image: Tensor
    """The part (b, 3, h, w) in [0, 1]."""

    corners: Tensor
    """(b, 2), the first row and the first column of the part in its image."""

    @property
    def sampled(self) -> Downsampled:
        """The part, in which every pixel is a sample."""
        size = (self.image.shape[2], self.image.shape[3])
        density = self.image.new_ones(len(self.image), 1, 1, 1)
        return Downsampled(self.image, identity_grid(size, self.image), density)

    def labels(self, size: Size) -> Tensor:
        """The class of every pixel, (b, H, W) uint8; of a whole image only."""
        if size != self.logits.shape[2:]:
            raise ArgumentError(
                f"Expected a whole image of {size}, but the prediction is of a part of "
                f"{tuple(self.logits.shape[2:])}: segment in eval mode."
            )
        return self.logits.argmax(dim=1).to(torch.uint8)

    def targets(self, labels: Tensor) -> Tensor:
        """The true class of every pixel of the part, (b, h, w), from labels (b, H, W)."""
        h, w = self.logits.shape[2:]
        missing = (max(0, h - labels.shape[1]), max(0, w - labels.shape[2]))
        padded = F.pad(labels, (0, missing[1], 0, missing[0]), value=IGNORE_INDEX)
        return torch.stack(
            [
                one[top : top + h, left : left + w]
                for one, (top, left) in zip(padded, self.corners.tolist(), strict=True)
            ]
        )
