"""From a density map to a sampling grid, and the geometry of a grid.

The sampling grid of Recasens et al. 2018 and Jin et al. 2022 puts sample x at

    u(x) = sum_x' d(x') k(x, x') x' / sum_x' d(x') k(x, x').

With a Gaussian k of width sigma this is u = x + sigma^2 grad log(k * d): the Jacobian is a
covariance divided by sigma^2, so the continuous map never folds. The Gaussian is separable, so the
sums are products with one small matrix per axis.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.geometry.coordinates import check_grid, check_size, identity_grid, to_pixels
from deformsample.geometry.gaussian import reflected_gaussian

_RELATIVE_FLOOR = 1e-4
"""Added to every cell, relative to the map's largest density. The continuous map never folds, but
its mesh can where the density falls by many orders of magnitude from one cell to the next."""


def sampling_grid(density: Tensor, size: Size, sigma: float) -> Tensor:
    """Place samples according to a density map.

    The grid covers the image exactly: its border samples lie on the image border, because the
    density is mirrored about its border cells. First, 1e-4 of the map's largest density is added to
    every cell; an all-zero map counts as flat. A flat density gives the identity grid (if grid and
    map differ in size, for a sigma of 1 or more). The mesh does not fold for a sigma of 2 or more,
    also in units of the sample distance.

    Args:
        density: (b, 1, h, w), not negative; its scale does not matter.
        size: (h, w) of the grid, independent of the map's own size.
        sigma: standard deviation of the Gaussian kernel, in map cells.

    Returns:
        Grid (b, h, w, 2), float32 or wider, differentiable in ``density``.

    Raises:
        ArgumentError: wrong shape, fewer than two cells or samples per side, or a kernel that is
            too narrow.

    Example:
        >>> density = torch.ones(1, 1, 16, 32)
        >>> density[..., 12:20] = 4.0  # samples move towards the middle columns
        >>> sampling_grid(density, (24, 48), sigma=2.0).shape
        torch.Size([1, 24, 48, 2])
    """
    if density.ndim != 4 or density.shape[1] != 1:
        raise ArgumentError(
            f"Expected `density` of shape (b, 1, h, w), but got {tuple(density.shape)}."
        )
    cells_y, cells_x = density.shape[2:]
    check_size((cells_y, cells_x), "density size")
    check_size(size, "size")
    # The quotient of two sums needs more precision than half.
    with torch.autocast(density.device.type, enabled=False):
        d = _with_floor(density[:, 0])
        y = reflected_gaussian(size[0], cells_y, sigma, like=d)
        x = reflected_gaussian(size[1], cells_x, sigma, like=d)
        across = d @ x.weights.T
        mass = y.weights @ across
        shift_x = (y.weights @ (d @ x.moments.T)) / mass * (2 / (cells_x - 1))
        shift_y = (y.moments @ across) / mass * (2 / (cells_y - 1))
        return identity_grid(size, d) + torch.stack((shift_x, shift_y), dim=-1)


def _with_floor(density: Tensor) -> Tensor:
    d = density.to(torch.promote_types(density.dtype, torch.float32))
    largest = d.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(d.dtype).tiny)
    return d / largest + _RELATIVE_FLOOR


def resize_grid(grid: Tensor, size: Size) -> Tensor:
    """Interpolate a grid by its own topology; border samples stay on the border.

    Args:
        grid: (b, h, w, 2).
        size: of the result.

    Example:
        >>> resize_grid(identity_grid((3, 3), torch.zeros(1)), (5, 9)).shape
        torch.Size([1, 5, 9, 2])
    """
    check_grid(grid)
    check_size(size, "size")
    if (grid.shape[1], grid.shape[2]) == size:
        return grid
    channels = F.interpolate(grid.movedim(-1, 1), size, mode="bilinear", align_corners=True)
    return channels.movedim(1, -1)


def local_stretch(grid: Tensor, image_size: Size) -> Tensor:
    """The side, in image pixels, of the area that each sample represents.

    The square root of the Jacobian's determinant, from central differences (one-sided at the
    border).

    Args:
        grid: (b, h, w, 2).
        image_size: (H, W) of the image that the grid samples.

    Returns:
        (b, h, w), in pixels, not negative.

    Example:
        >>> grid = identity_grid((5, 9), torch.zeros(1))
        >>> local_stretch(grid, (17, 33)).unique().tolist()  # each sample stands for 4 x 4 pixels
        [4.0]
    """
    check_grid(grid)
    points = to_pixels(grid, image_size)
    (dy,) = torch.gradient(points, dim=1)
    (dx,) = torch.gradient(points, dim=2)
    return (dx[..., 0] * dy[..., 1] - dx[..., 1] * dy[..., 0]).abs().sqrt()


def sample_areas(grid: Tensor) -> Tensor:
    """The share of the image area that each sample represents.

    Every cell of the mesh gives a quarter of its area to each of its corners.

    Args:
        grid: (b, h, w, 2).

    Returns:
        (b, h, w), sum 1 over the samples of an image.

    Example:
        >>> sample_areas(identity_grid((3, 3), torch.zeros(1)))[0].tolist()
        [[0.0625, 0.125, 0.0625], [0.125, 0.25, 0.125], [0.0625, 0.125, 0.0625]]
    """
    check_grid(grid)
    main = grid[:, 1:, 1:] - grid[:, :-1, :-1]
    anti = grid[:, 1:, :-1] - grid[:, :-1, 1:]
    # Half the cross product of the diagonals; the whole image has area 4 in normalised units.
    quarter = (main[..., 0] * anti[..., 1] - main[..., 1] * anti[..., 0]) / 2 / 4 / 4
    areas = torch.zeros_like(grid[..., 0])
    areas[:, :-1, :-1] += quarter
    areas[:, :-1, 1:] += quarter
    areas[:, 1:, :-1] += quarter
    areas[:, 1:, 1:] += quarter
    return areas
