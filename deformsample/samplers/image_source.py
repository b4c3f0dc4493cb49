"""Image sources for sampling: in memory, or out of core."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from deformsample.conventions import Pixels, Size
from deformsample.errors import ArgumentError
from deformsample.geometry import image_pyramid, warp, warp_pyramid


class ImageSource(Protocol):
    """Images of one size, whose samples and rows can be read."""

    @property
    def size(self) -> Size:
        """(H, W)."""

    @property
    def count(self) -> int:
        """The number of images."""

    def sample(self, grid: Tensor, lod_bias: float | None) -> Tensor:
        """Sample the images at the points of a grid.

        Args:
            grid: (b, h, w, 2).
            lod_bias: as in :class:`~deformsample.samplers.Downsampler`.

        Returns:
            (b, 3, h, w) in [0, 1], on the grid's device.
        """

    def rows(self, top: int, bottom: int) -> Tensor:
        """The rows top <= i < bottom, (b, 3, n, W) in [0, 1]."""


class InMemoryImage:
    """Images in memory.

    Args:
        image: (b, 3, H, W), uint8, or float in [0, 1].

    Raises:
        ArgumentError: another shape or dtype.
    """

    def __init__(self, image: Tensor) -> None:
        self.image = image
        self._white = white(image)
        self._pyramid: list[Tensor] = []

    @property
    def size(self) -> Size:
        """(H, W)."""
        return self.image.shape[2], self.image.shape[3]

    @property
    def count(self) -> int:
        """The number of images."""
        return len(self.image)

    def sample(self, grid: Tensor, lod_bias: float | None) -> Tensor:
        """Sample the images; see :class:`ImageSource`."""
        # Dividing the samples is cheaper than dividing the whole image.
        if lod_bias is None:
            return warp(self.image, grid) / self._white
        self._pyramid = self._pyramid or image_pyramid(self.image)
        return warp_pyramid(self._pyramid, grid, lod_bias) / self._white

    def rows(self, top: int, bottom: int) -> Tensor:
        """Rows of the images; see :class:`ImageSource`."""
        return self.image[:, :, top:bottom] / self._white


def white(image: Tensor) -> float:
    """The value of white in an image (b, 3, h, w), uint8, or float in [0, 1].

    Raises:
        ArgumentError: another shape or dtype.
    """
    if image.ndim != 4 or image.shape[1] != 3:
        raise ArgumentError(
            f"Expected `image` of shape (b, 3, h, w), but got {tuple(image.shape)}."
        )
    if image.dtype == torch.uint8:
        return 255.0
    if image.is_floating_point():
        return 1.0
    raise ArgumentError(f"Expected `image` of uint8, or float in [0, 1], but got {image.dtype}.")


def as_pixels(image: Tensor) -> Pixels:
    """Convert a tensor (3, h, w), uint8 or float in [0, 1], to a uint8 array (h, w, 3)."""
    if image.is_floating_point():
        image = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    pixels: Pixels = image.cpu().numpy().transpose(1, 2, 0)
    return pixels
