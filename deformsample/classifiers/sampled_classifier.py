"""Classification of a small, sampled image (Recasens et al. 2018)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.profiler import record_function

from deformsample.classifiers.classifier import Classifier
from deformsample.samplers import Sampler
from deformsample.samplers.downsampler import Downsampler


class SampledClassifier(Downsampler, Classifier):
    """Sample an image through a grid, and classify the small image.

    With a learned sampler, the two are trained jointly: no truth says where the samples should lie,
    so the loss of the classes moves them, through the warp, by the differences of the image around
    them. After Recasens et al., "Learning to Zoom: a Saliency-Based Sampling Layer for Neural
    Networks" (ECCV 2018).

    Args:
        sampler: as of :class:`~deformsample.samplers.downsampler.Downsampler`.
        network: normalised image (b, 3, h, w) to scores (b, k).
        sampled_size: as of the downsampler.
        thumbnail_scale: as of the downsampler.
        level_bias: as of the downsampler.
        sample_gradient: as of the downsampler.
    """

    def __init__(
        self,
        sampler: Sampler,
        network: nn.Module,
        sampled_size: tuple[int, int] | int = (128, 128),
        thumbnail_scale: float = 1.0,
        level_bias: float | None = 1.0,
        sample_gradient: bool = True,  # noqa: FBT001, FBT002 - always given by name, from a config
    ) -> None:
        super().__init__(sampler, sampled_size, thumbnail_scale, level_bias, sample_gradient)
        self.network = network
        self.to(memory_format=torch.channels_last)

    @property
    def title(self) -> str:
        """That of the sampler."""
        return self.sampler.title

    def forward(self, image: Tensor) -> Tensor:
        """See :class:`Classifier`."""
        small = self.downsample(image).image
        with record_function("network"):
            scores: Tensor = self.network(self._normalised(small))
        return scores
