"""Classification of a downsampled image (Recasens et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.profiler import record_function
from typing_extensions import override

from deformsample.classifiers.classifier import Classifier
from deformsample.samplers.downsampler import Downsampler


class SampledClassifier(Classifier):
    """Downsample an image, and classify the small image.

    A learned sampler is trained jointly: the classification loss moves the samples through the
    gradient of the warp. After Recasens et al., "Learning to Zoom: a Saliency-Based Sampling Layer
    for Neural Networks" (ECCV 2018).

    Args:
        downsampler: downsamples the image.
        network: normalised image (b, 3, h, w) to scores (b, k).
    """

    downsampler: Downsampler

    def __init__(self, downsampler: Downsampler, network: nn.Module) -> None:
        super().__init__(network, downsampler)
        self.to(memory_format=torch.channels_last)

    @property
    def display_name(self) -> str:
        """The name of the sampler."""
        return self.downsampler.sampler.display_name

    @override
    def forward(self, image: Tensor) -> Tensor:
        small = self.downsampler(image).image
        with record_function("network"):
            scores: Tensor = self.network(self.normalize(small))
        return scores
