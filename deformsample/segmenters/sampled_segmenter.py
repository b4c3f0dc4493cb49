"""Segmentation of a downsampled image."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.autograd.profiler import record_function

from deformsample.conventions import Size
from deformsample.geometry import guided_label_bands, label_bands, resize_grid
from deformsample.samplers import Focus, ImageSource
from deformsample.samplers.downsampler import Downsampled, Downsampler, sampled_size
from deformsample.segmenters.prediction import SampledPrediction
from deformsample.segmenters.segmenter import Segmenter

_BAND_ROWS = 256


class SampledSegmenter(Segmenter):
    """Downsample an image, segment the small image, and unwarp the labels.

    Args:
        downsampler: downsamples the image.
        network: normalised image (b, 3, h, w) to logits (b, k, h', w'), with aligned corners.
        network_multiple: pad the small image to a multiple of this by repeating its last row and
            column, for networks that need it (most encoder-decoders: 32).

    Example:
        >>> from deformsample.networks import UNet
        >>> from deformsample.samplers import UniformSampler
        >>> downsampler = Downsampler(UniformSampler(), sampled_size=(32, 48))
        >>> segmenter = SampledSegmenter(downsampler, UNet(num_classes=3, widths=(8, 16)))
        >>> segmenter.segment(torch.rand(1, 3, 256, 384)).shape
        torch.Size([1, 256, 384])
    """

    downsampler: Downsampler

    def __init__(
        self, downsampler: Downsampler, network: nn.Module, network_multiple: int = 1
    ) -> None:
        super().__init__(network, network_multiple, downsampler)

    @property
    def display_name(self) -> str:
        """The name of the sampler."""
        return self.downsampler.sampler.display_name

    def forward(
        self, image: Tensor, labels: Tensor | None = None, focus: Focus | None = None
    ) -> SampledPrediction:
        """Compute logits at the samples of an image.

        Args:
            image: (b, 3, H, W), uint8, or float in [0, 1].
            labels: (b, H, W) class ids, used only by oracles.
            focus: regions of all images with a higher sampling density.

        Returns:
            ``SampledPrediction``; its ``labels`` method returns full-resolution labels.
        """
        return self.predict(self.downsampler(image, labels, focus))

    def predict(self, sampled: Downsampled) -> SampledPrediction:
        """Segment a downsampled image."""
        with record_function("network"):
            logits = self._logits(sampled.image)
        grid = resize_grid(sampled.grid, (logits.shape[2], logits.shape[3]))
        return SampledPrediction(logits, grid, sampled)

    @torch.no_grad()
    def segment(
        self,
        image: Tensor,
        labels: Tensor | None = None,
        *,
        focus: Focus | None = None,
        guided: bool = False,
    ) -> Tensor:
        """The class of every pixel; see :meth:`Segmenter.segment`."""
        height, width = image.shape[2:]
        prediction: SampledPrediction = self(image, labels, focus)
        return prediction.guided_labels(image) if guided else prediction.labels((height, width))

    @torch.no_grad()
    def label_bands(
        self, source: ImageSource, *, focus: Focus | None = None, guided: bool = False
    ) -> Iterator[Tensor]:
        """The class of every pixel; in memory are the samples and one band of labels.

        Guided labels also read every row of the image.
        """
        prediction = self.predict(self.downsampler(source, focus=focus))
        logits, grid = prediction.logits.float().cpu(), prediction.grid.cpu()
        if guided:
            small = prediction.sampled.image.cpu()
            return guided_label_bands(logits, grid, small, source.rows, source.size, _BAND_ROWS)
        return label_bands(logits, grid, source.size, _BAND_ROWS)

    def pixels(self, size: Size) -> int:
        """The number of pixels of the small image."""
        return math.prod(sampled_size(size, self.downsampler.sampled_size))
