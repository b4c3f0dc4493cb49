"""What a sampler is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from deformsample.conventions import Size
from deformsample.geometry import ErrorCurves


class Placement(NamedTuple):
    """Where an image is sampled, and what the sampler saw on the way."""

    density: Tensor
    """Density map (b, 1, h, w) of the thumbnail's size, with sum 1."""

    grid: Tensor
    """(b, h, w, 2), over the whole image; its border samples lie on the image border."""

    curves: ErrorCurves | None = None
    """The error curves that the density follows from, where the sampler predicts them."""


class Sampler(nn.Module, ABC):
    """Decides from a thumbnail where an image is sampled."""

    display_name: str
    """The name of the sampler in tables and figures."""

    @abstractmethod
    def forward(self, thumbnail: Tensor, size: Size, labels: Tensor | None = None) -> Placement:
        """Place the samples.

        Args:
            thumbnail: (b, 3, h, w), normalised.
            size: (h, w) of the grid.
            labels: (b, H, W) true class ids, which only oracles look at.
        """
