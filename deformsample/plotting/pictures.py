"""What is drawn of one image and one method."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deformsample.conventions import Size
from deformsample.geometry import unwarp
from deformsample.samplers.downsampler import Downsampled, Downsampler
from deformsample.segmenters import Prediction, Segmenter


@dataclass(frozen=True)
class SampledPicture:
    """One image as one method sampled it; tensors of a single image."""

    title: str
    grid: Tensor
    """(h, w, 2)."""

    density: Tensor
    """(h', w'), sum 1."""

    small: Tensor
    """(3, h, w) in [0, 1]."""

    def restored(self, size: Size) -> Tensor:
        """The small image brought back to a full size (H, W), (3, H, W) in [0, 1]."""
        return unwarp(self.small[None], self.grid[None], size)[0].clamp(0, 1)


@dataclass(frozen=True)
class SegmentedPicture(SampledPicture):
    """One image as one method sampled and segmented it."""

    labels: Tensor
    """(H, W) uint8, full resolution."""


@torch.no_grad()
def sampled_picture(downsampler: Downsampler, image: Tensor, title: str) -> SampledPicture:
    """Sample one image (1, 3, H, W), for a figure."""
    sampled: Downsampled = downsampler(image)
    return SampledPicture(title, sampled.grid[0], sampled.density[0, 0], sampled.image[0])


@torch.no_grad()
def picture_of(
    segmenter: Segmenter, image: Tensor, title: str, labels: Tensor | None = None
) -> SegmentedPicture:
    """Sample and segment one image (1, 3, H, W), for a figure; oracles see the labels (1, H, W)."""
    height, width = image.shape[2:]
    prediction: Prediction = segmenter(image, labels)
    sampled = prediction.sampled
    return SegmentedPicture(
        title,
        sampled.grid[0],
        sampled.density[0, 0],
        sampled.image[0],
        prediction.labels((height, width))[0],
    )
