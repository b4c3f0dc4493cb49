"""What every classifier can do, however it goes about an image."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from deformsample.samplers.downsampler import Downsampler
from deformsample.samplers.normalize import Normalize


class Classifier(nn.Module, ABC):
    """From an image to its scores.

    Args:
        network: normalised image (b, 3, h, w) to scores (b, k).
        downsampler: what samples the image, if anything does.
    """

    downsampler: Downsampler | None

    def __init__(self, network: nn.Module, downsampler: Downsampler | None = None) -> None:
        super().__init__()
        self.downsampler = downsampler
        self.normalize = Normalize()
        self.network = network

    @property
    def device(self) -> torch.device:
        """Where the classifier is."""
        return self.normalize.mean.device

    @property
    @abstractmethod
    def display_name(self) -> str:
        """Names the classifier in tables."""

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """Score images.

        Args:
            image: (b, 3, H, W), uint8, or float in [0, 1].

        Returns:
            (b, k), whose softmax is the probability of each of k classes. A single score (k = 1)
            is what it is.
        """
