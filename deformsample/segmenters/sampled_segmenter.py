"""Segmentation of a small, sampled image: the whole method in one place."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.autograd.profiler import record_function

from deformsample.conventions import Size
from deformsample.geometry import resize_grid
from deformsample.samplers import Sampler
from deformsample.samplers.downsampler import Downsampled, Downsampler, sampled_size
from deformsample.segmenters.prediction import Prediction
from deformsample.segmenters.segmenter import Segmenter


class SampledSegmenter(Downsampler, Segmenter):
    """Sample an image through a grid, segment the small image, and put the labels back.

    Args:
        sampler: as of :class:`Downsampler`.
        network: normalised image (b, 3, h, w) to logits (b, k, h', w'), corner to corner.
        sampled_size: as of :class:`Downsampler`.
        thumbnail_scale: as of :class:`Downsampler`.
        level_bias: as of :class:`Downsampler`.
        sample_gradient: as of :class:`Downsampler`.
        network_multiple: pad the small image to a multiple of this, repeating its last row and
            column, for a network that needs one (most encoder-decoders: 32).
    """

    def __init__(
        self,
        sampler: Sampler,
        network: nn.Module,
        sampled_size: tuple[int, int] | int = (64, 128),
        thumbnail_scale: float = 1.0,
        level_bias: float | None = 1.0,
        sample_gradient: bool = True,  # noqa: FBT001, FBT002 - always given by name, from a config
        network_multiple: int = 1,
    ) -> None:
        super().__init__(sampler, sampled_size, thumbnail_scale, level_bias, sample_gradient)
        self.network = network
        self.network_multiple = network_multiple
        self.to(memory_format=torch.channels_last)

    @property
    def title(self) -> str:
        """That of the sampler."""
        return self.sampler.title

    def forward(self, image: Tensor, labels: Tensor | None = None) -> Prediction:
        """Segment an image at its samples.

        Args:
            image: (b, 3, H, W), uint8, or float in [0, 1].
            labels: as of :meth:`Downsampler.downsample`.

        Returns:
            ``Prediction``; its ``labels`` method brings it to the image's own size.
        """
        return self.predict(self.downsample(image, labels))

    def predict(self, sampled: Downsampled) -> Prediction:
        """Segment what is downsampled already."""
        with record_function("network"):
            logits = self._logits(self._normalised(sampled.image))
        grid = resize_grid(sampled.grid, (logits.shape[2], logits.shape[3]))
        return Prediction(logits, grid, sampled)

    @torch.no_grad()
    def segment(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        """The class of every pixel: (b, 3, H, W) to (b, H, W) uint8; labels as of ``forward``."""
        height, width = image.shape[2:]
        prediction: Prediction = self(image, labels)
        return prediction.labels((height, width))

    def pixels(self, size: Size) -> int:
        """Those of the small image."""
        return math.prod(sampled_size(size, self.sampled_size))
