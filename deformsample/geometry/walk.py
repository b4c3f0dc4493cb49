"""Point location in the mesh of a grid by a fixed number of tensor operations, for exported graphs.

A point is found by walking: from a triangle to its neighbour across the edge that separates the
triangle from the point most (the visibility walk; Devillers, Pion, and Teillaud 2002, "Walking in a
Triangulation", International Journal of Foundations of Computer Science 13). Walks begin at the
inverse of a coarser mesh, so that a few steps suffice. A triangle that contains the point is exact.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional as F

from deformsample.conventions import Size
from deformsample.geometry.coordinates import identity_grid, to_pixels
from deformsample.geometry.grid import resize_grid
from deformsample.geometry.inverse import implicit_change, small_points
from deformsample.geometry.mesh import Located, Mesh

_STEPS = 16
"""Steps of the last walk. Eight suffice for the cases of ``benchmarks/transport_map.py``, 14 for
Gaussian grids whose triangles are as small as 5e-6 of those of uniform sampling."""

_COARSE_STEPS = 5
"""Steps of a walk in a coarser mesh, which only gives the start of the next."""

_BLOCK_PIXELS = 1 << 21


def walked(grid: Tensor, size: Size, channels: int) -> Iterator[tuple[Mesh, Located]]:
    """Locate the pixels of an image, in blocks of rows.

    Args:
        grid: (b, h, w, 2), a mesh without folds that covers the image.
        size: (H, W) of the image.
        channels: number of values to interpolate; blocks are smaller for more.

    Yields:
        The mesh, and the triangles and weights of a block.
    """
    mesh = Mesh(_on_border(grid.float()))
    pixels = identity_grid(size, mesh.vertices)
    start = _interpolated(_inverse_vertices(mesh.vertices), size)
    rows = max(1, 16 * _BLOCK_PIXELS // (len(grid) * size[1] * (channels + 16)))
    for points, first in zip(pixels.split(rows, 1), start.split(rows, 1), strict=True):
        yield mesh, _walk(mesh, points, first, _STEPS)


def located_points(mesh: Mesh, located: Located) -> Tensor:
    """The normalised points (b, n, m, 2) of the small image."""
    return small_points(mesh.size, located.triangle, located.weights)


def inverse_lattice(grid: Tensor, size: Size) -> Tensor:
    """The normalised points of the small image that a mesh maps to a uniform grid.

    Args:
        grid: (b, h, w, 2), a mesh without folds that covers the image.
        size: (H, W) of the uniform grid.

    Returns:
        (b, H, W, 2), with the gradient of the exact inverse to the grid.
    """
    mesh = Mesh(_on_border(grid.detach()))
    start = _interpolated(_inverse_vertices(mesh.vertices), size)
    located = _walk(mesh, identity_grid(size, mesh.vertices), start, _STEPS)
    if grid.requires_grad and torch.is_grad_enabled():
        change = implicit_change(grid, mesh, located)
        located = located._replace(weights=located.weights - change)
    return located_points(mesh, located)


def _inverse_vertices(grid: Tensor) -> Tensor:
    """The inverse of a mesh (b, h, w, 2) at a uniform grid of its own size."""
    points = identity_grid((2, 2), grid)
    for size in reversed(_coarser((grid.shape[1], grid.shape[2]))):
        mesh = Mesh(_on_border(resize_grid(grid, size)))
        start = _interpolated(points, size)
        located = _walk(mesh, identity_grid(size, grid), start, _COARSE_STEPS)
        points = located_points(mesh, located)
    return points


def _coarser(size: Size) -> list[Size]:
    """A size, and its halves down to 2 x 2 samples."""
    sizes = [size]
    while max(sizes[-1]) > 2:
        h, w = sizes[-1]
        sizes.append((max(2, (h + 1) // 2), max(2, (w + 1) // 2)))
    return sizes


def _interpolated(points: Tensor, size: Size) -> Tensor:
    stacked = F.interpolate(points.movedim(-1, 1), size, mode="bilinear", align_corners=True)
    return stacked.movedim(1, -1)


def _walk(mesh: Mesh, points: Tensor, start: Tensor, steps: int) -> Located:
    """Locate image points (b, n, m, 2), from normalised points of the small image."""
    h, w = mesh.size
    # The caller reports non-finite points; an index must be finite.
    x, y = to_pixels(start, mesh.size).nan_to_num().unbind(-1)
    column, row = x.floor().clamp(0, w - 2), y.floor().clamp(0, h - 2)
    lower = x - column + y - row > 1
    table, count = mesh.inverse.flatten(0, 1), mesh.inverse.shape[1]
    # The triangles of all images are numbered together; walks do not leave their image.
    image = torch.arange(len(start), device=start.device).view(-1, 1, 1) * count
    triangle = (row.long() * (w - 1) + column.long()) * 2 + lower + image
    px, py = points.unbind(-1)
    for _ in range(steps):
        first, second, third = _weights(table, triangle, px, py)
        least = torch.minimum(torch.minimum(first, second), third)
        # Across the edge opposite to a corner: in the cell, beside it, or above or below it.
        step = torch.where(third == least, 3 - 2 * w, torch.where(second == least, -1, 1))
        step = step * (1 - triangle % 2 * 2)
        triangle = torch.where(least < 0, triangle + step, triangle).clamp(0, len(table) - 1)
    _, second, third = _weights(table, triangle, px, py)
    second = second.clamp(0, 1)
    third = torch.minimum(third.clamp_min(0), 1 - second)
    return Located(triangle - image, torch.stack((second, third), dim=-1))


def _weights(
    table: Tensor, triangle: Tensor, x: Tensor, y: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Barycentric weights of points in triangles of a table of ``Mesh.inverse``."""
    rows = table.index_select(0, triangle.flatten()).view(*triangle.shape, 6)
    x0, y0, second_x, second_y, third_x, third_y = rows.unbind(-1)
    dx, dy = x - x0, y - y0
    second, third = second_x * dx + second_y * dy, third_x * dx + third_y * dy
    return 1 - second - third, second, third


def _on_border(grid: Tensor) -> Tensor:
    """Move border samples exactly onto the border, which no walk crosses then."""
    h, w = grid.shape[1:3]
    rows, columns = (torch.arange(n, device=grid.device) for n in (h, w))
    uniform = identity_grid((h, w), grid)
    x = grid[..., 0].where((columns > 0) & (columns < w - 1), uniform[..., 0])
    y = grid[..., 1].where(((rows > 0) & (rows < h - 1))[:, None], uniform[..., 1])
    return torch.stack((x, y), dim=-1)
