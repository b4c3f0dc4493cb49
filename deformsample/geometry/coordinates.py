"""Coordinates in an image.

Convention: a size is (h, w); a point is (x, y); a normalised point lies in [-1, 1] per axis, where
-1 is the centre of the first pixel and 1 is the centre of the last one (``align_corners=True``).
A grid is a tensor (b, h, w, 2) of normalised points.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.kernels.checks import check_grid_shape
from deformsample.kernels.checks import check_size as check_size


def check_grid(grid: Tensor) -> None:
    """Raise ``ArgumentError`` unless ``grid`` has the shape (b, h, w, 2) and a float dtype."""
    check_grid_shape(grid.shape)
    if not grid.is_floating_point():
        raise ArgumentError(f"Expected `grid` of a float dtype, but got {grid.dtype}.")


def axis(count: int, like: Tensor) -> Tensor:
    """``count`` equally spaced normalised coordinates from -1 to 1, shape (count,).

    The ends are exactly -1 and 1. Device and dtype are those of ``like``.
    """
    return torch.linspace(-1.0, 1.0, count, device=like.device, dtype=like.dtype)


def identity_grid(size: Size, like: Tensor) -> Tensor:
    """The grid that samples an image uniformly, corner to corner.

    Args:
        size: (h, w) of the grid.
        like: a tensor (b, ...) that gives batch size, device and dtype.

    Returns:
        Grid (b, h, w, 2).

    Example:
        >>> identity_grid((2, 3), torch.zeros(1))[0].tolist()
        [[[-1.0, -1.0], [0.0, -1.0], [1.0, -1.0]], [[-1.0, 1.0], [0.0, 1.0], [1.0, 1.0]]]
    """
    check_size(size, "size")
    h, w = size
    y, x = torch.meshgrid(axis(h, like), axis(w, like), indexing="ij")
    return torch.stack((x, y), dim=-1).expand(like.shape[0], h, w, 2)


def to_pixels(points: Tensor, size: Size) -> Tensor:
    """Normalised points (..., 2) to pixel coordinates (x, y) of an image of ``size`` (h, w).

    The centre of the first pixel is 0, that of the last one is w - 1 (or h - 1).

    Example:
        >>> to_pixels(torch.tensor([0.0, 1.0]), (5, 9)).tolist()
        [4.0, 4.0]
    """
    return (points + 1) * (_last_pixel(points, size) / 2)


def from_pixels(points: Tensor, size: Size) -> Tensor:
    """Pixel coordinates (..., 2) to normalised points: the inverse of :func:`to_pixels`.

    Example:
        >>> from_pixels(torch.tensor([4.0, 4.0]), (5, 9)).tolist()
        [0.0, 1.0]
    """
    return points / (_last_pixel(points, size) / 2) - 1


def constants(like: Tensor, *values: float) -> Tensor:
    """A vector of numbers, with the device and dtype of ``like``.

    Unlike ``torch.tensor``, this copies nothing from the host, which would stop a GPU.
    """
    return torch.stack([like.new_full((), value) for value in values])


def _last_pixel(points: Tensor, size: Size) -> Tensor:
    h, w = size
    return constants(points, w - 1, h - 1)
