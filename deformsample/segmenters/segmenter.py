"""The base class of segmenters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.samplers.downsampler import Downsampler
from deformsample.samplers.focus import Focus
from deformsample.samplers.image_source import ImageSource
from deformsample.samplers.normalize import Normalize
from deformsample.segmenters.network_output import logits_at_pixels
from deformsample.segmenters.prediction import Prediction


class Segmenter(nn.Module, ABC):
    """Predicts the class of every pixel of an image.

    Args:
        network: normalised image (b, 3, h, w) to logits (b, k, h', w'), with aligned corners: a
            tensor, a dictionary with ``out`` (torchvision), or an object with ``logits``
            (transformers). Logits coarser than the image are interpolated to its size.
        network_multiple: pad the input of the network to a multiple of this by repeating the last
            row and column, for networks that need it (most encoder-decoders: 32).
        downsampler: downsamples the image; ``None`` for full resolution.
    """

    downsampler: Downsampler | None

    def __init__(
        self, network: nn.Module, network_multiple: int, downsampler: Downsampler | None = None
    ) -> None:
        super().__init__()
        if network_multiple < 1:
            raise ArgumentError(
                f"Expected `network_multiple` of at least 1, but got {network_multiple}."
            )
        self.downsampler = downsampler
        self.normalize = Normalize()
        self.network = network
        self.network_multiple = network_multiple
        self.to(memory_format=torch.channels_last)

    @property
    def device(self) -> torch.device:
        """The device of the segmenter."""
        return self.normalize.mean.device

    @property
    @abstractmethod
    def display_name(self) -> str:
        """The name of the segmenter in figures."""

    @abstractmethod
    def forward(self, image: Tensor, labels: Tensor | None = None) -> Prediction:
        """The prediction for training and validation.

        Args:
            image: (b, 3, H, W), uint8, or float in [0, 1].
            labels: (b, H, W) class ids, used only by oracles.
        """

    @abstractmethod
    def segment(
        self,
        image: Tensor,
        labels: Tensor | None = None,
        *,
        focus: Focus | None = None,
        guided: bool = False,
    ) -> Tensor:
        """The class of every pixel: (b, 3, H, W) to (b, H, W) uint8.

        Args:
            image: as in ``forward``.
            labels: as in ``forward``.
            focus: regions with a higher sampling density.
            guided: whether boundaries between samples follow the colours of the image
                (:func:`.geometry.guided_labels`).

        Raises:
            ArgumentError: ``focus`` or ``guided``, but every pixel is a sample.
        """

    @torch.no_grad()
    def label_bands(
        self, source: ImageSource, *, focus: Focus | None = None, guided: bool = False
    ) -> Iterator[Tensor]:
        """The class of every pixel of one image, (n, W) uint8 on the CPU, from top to bottom."""
        yield self.segment(source.rows(0, source.size[0]), focus=focus, guided=guided)[0].cpu()

    @abstractmethod
    def pixels(self, size: Size) -> int:
        """The number of input pixels of the network for an image of size (H, W)."""

    def _logits(self, image: Tensor) -> Tensor:
        """The logits of an image in [0, 1], at its pixels or finer."""
        return logits_at_pixels(self.network, self.normalize(image), self.network_multiple)
