"""What every segmenter can do, however it goes about an image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from deformsample.geometry import Size
from deformsample.segmenters.downsampling import Downsampled
from deformsample.segmenters.normalising import Normalising


class Predicted(Protocol):
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


class Segmenter(Normalising, ABC):
    """From an image to the class of every pixel."""

    network: nn.Module
    network_multiple: int

    @property
    @abstractmethod
    def title(self) -> str:
        """Names the segmenter in figures."""

    @abstractmethod
    def forward(self, image: Tensor, labels: Tensor | None = None) -> Predicted:
        """Look at an image, as training wants it.

        Args:
            image: (b, 3, H, W), uint8, or float in [0, 1].
            labels: (b, H, W) true class ids, which only oracles look at.
        """

    @abstractmethod
    def segment(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        """The class of every pixel: (b, 3, H, W) to (b, H, W) uint8; labels as of ``forward``."""

    @abstractmethod
    def pixels(self, size: Size) -> int:
        """How many pixels the network gets to see of an image of a size (H, W)."""

    def _logits(self, image: Tensor) -> Tensor:
        """Those of a normalised image, which is padded to a multiple of ``network_multiple``."""
        h, w = image.shape[2:]
        right, down = -w % self.network_multiple, -h % self.network_multiple
        if not right and not down:
            whole: Tensor = self.network(image)
            return whole
        padded: Tensor = self.network(F.pad(image, (0, right, 0, down), mode="replicate"))
        return padded[..., :h, :w]
