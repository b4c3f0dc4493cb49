"""What a sampler is."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from deformsample.geometry import Size


class Sampler(nn.Module, ABC):
    """Decides from a thumbnail where an image is sampled."""

    title: str
    """What tables and pictures call it."""

    @abstractmethod
    def forward(self, thumbnail: Tensor, size: Size) -> tuple[Tensor, Tensor]:
        """Place the samples.

        Args:
            thumbnail: (b, 3, h, w), normalised.
            size: (h, w) of the grid.

        Returns:
            Density map (b, 1, h, w) of the thumbnail's size, with sum 1, and a grid
            (b, *size, 2) that covers the image: its border samples lie on the image border.
        """
