"""What every segmenter can do, however it goes about an image."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn
from torch.nn import functional as F

from deformsample.conventions import Size
from deformsample.samplers.normalize import Normalising
from deformsample.segmenters.prediction import Predicted


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
