"""The base class of samplers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.geometry import ErrorCurves


class Placement(NamedTuple):
    """Sampling locations of an image, and the density behind them."""

    density: Tensor
    """Density map (b, 1, h, w) of the size of the thumbnail, with sum 1."""

    grid: Tensor
    """(b, h, w, 2) over the whole image; border samples lie on the image border."""

    curves: ErrorCurves | None = None
    """The error curves of a sampler that predicts them."""


class Sampler(nn.Module, ABC):
    """Predicts sampling locations from a thumbnail."""

    display_name: str
    """The name of the sampler in tables and figures."""

    needs_thumbnail = True
    """Whether the thumbnail is read; otherwise it is 0, and only its size counts."""

    @abstractmethod
    def forward(self, thumbnail: Tensor, size: Size, labels: Tensor | None = None) -> Placement:
        """Place the samples.

        Args:
            thumbnail: (b, 3, h, w), normalised.
            size: (h, w) of the grid.
            labels: (b, H, W) class ids, used only by oracles.
        """

    def regrid(self, density: Tensor, size: Size) -> Tensor:
        """Place the samples by another density map than the predicted one.

        Args:
            density: (b, 1, h, w), not negative; its scale does not matter.
            size: (h, w) of the grid.

        Returns:
            Grid (b, h, w, 2) over the whole image.

        Raises:
            ArgumentError: the sampler does not place samples by a density map.
        """
        raise ArgumentError(
            "Expected a sampler that places samples by a density map for a focus, but got "
            f"{type(self).__name__} ({self.display_name})."
        )
