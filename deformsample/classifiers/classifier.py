"""What every classifier can do, however it goes about an image."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from deformsample.samplers.normalize import Normalising


class Classifier(Normalising, ABC):
    """From an image to its scores."""

    network: nn.Module

    @property
    @abstractmethod
    def title(self) -> str:
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
