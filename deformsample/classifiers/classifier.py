"""The base class of classifiers."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from deformsample.samplers.downsampler import Downsampler
from deformsample.samplers.normalize import Normalize


class Classifier(nn.Module, ABC):
    """Predicts the scores of an image.

    Args:
        network: normalised image (b, 3, h, w) to scores (b, k).
        downsampler: downsamples the image; ``None`` for full resolution.
    """

    downsampler: Downsampler | None

    def __init__(self, network: nn.Module, downsampler: Downsampler | None = None) -> None:
        super().__init__()
        self.downsampler = downsampler
        self.normalize = Normalize()
        self.network = network

    @property
    def device(self) -> torch.device:
        """The device of the classifier."""
        return self.normalize.mean.device

    @property
    @abstractmethod
    def display_name(self) -> str:
        """The name of the classifier in tables."""

    @abstractmethod
    def forward(self, image: Tensor) -> Tensor:
        """Score images.

        Args:
            image: (b, 3, H, W), uint8, or float in [0, 1].

        Returns:
            (b, k) logits of k classes, or a single score (k = 1).
        """
