"""The inverse of a sampling grid: from image points to small-image points."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.geometry.dispatch import is_readable
from deformsample.geometry.mesh import (
    Located,
    Mesh,
    locate_anywhere,
    scan_axis,
    snapped,
    triangulate,
)
from deformsample.kernels.checks import BORDER_TOLERANCE
from deformsample.kernels.compiled import in_threads
from deformsample.kernels.raster import (
    Floats,
    Spans,
    coordinates_backward,
    rasterize_coordinates,
    scan,
)


def inverse_coordinates(grid: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Invert a grid at a regular grid of image points.

    The gradient to the grid is that of the exact inverse, by implicit differentiation: u(x*) = y
    implies dx* = -J(x*)^-1 du, with J the Jacobian of the triangle that contains x*.

    On a CPU the inverse is exact for any mesh. On other devices and in compiled graphs, nothing is
    read from the device. The inverse is then exact for grids of densities whose maps have an aspect
    (width by height) of at most 2 more than the grid, and for other grids without many folds. A
    grid or points that would raise an error on a CPU give NaN.

    Args:
        grid: (b, h, w, 2), a mesh that covers the image: its border samples lie on the border.
        rows: (n,) normalised y of the image points, ascending, in [-1, 1].
        columns: (m,) normalised x of the image points, ascending, in [-1, 1].

    Returns:
        (b, n, m, 2) normalised points x* of the small image, with u(x*) = (columns, rows) under
        linear interpolation of the grid in its triangles.

    Raises:
        ArgumentError: wrong shapes, a grid that leaves part of the image uncovered, points
            outside [-1, 1] (the last two on a CPU only), or a call during ``torch.export``.

    Example:
        >>> grid = torch.tensor([[[[-1.0, -1.0], [1.0, -1.0]], [[-1.0, 1.0], [1.0, 1.0]]]])
        >>> inverse_coordinates(grid, torch.tensor([0.0]), torch.tensor([-0.5, 0.5])).tolist()
        [[[[-0.5, 0.0], [0.5, 0.0]]]]
    """
    if torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling():
        raise ArgumentError(
            "Expected a sampler of tensor operations, but this one inverts its grid, which cannot "
            "be exported."
        )
    if is_readable(grid):
        mesh = triangulate(grid)
        axes = scan_axis(mesh, rows, "rows"), scan_axis(mesh, columns, "columns")
        coordinates: Tensor = _CompiledInverse.apply(grid, mesh.vertices, *axes)
        return coordinates
    return _inverse_anywhere(grid, rows, columns)


class _CompiledInverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grid: Tensor, vertices: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        shape = (len(grid), len(rows), len(columns))
        triangles = torch.empty(shape, dtype=torch.int32)
        exact = grid.dtype in (torch.float32, torch.float64)
        coordinates = torch.empty(*shape, 2, dtype=grid.dtype if exact else torch.float32)
        arrays = (t.numpy() for t in (rows, columns, triangles, coordinates))
        y, x, triangle_array, coordinate_array = arrays

        def rasterize(image: int, mesh: Floats, spans: Spans) -> None:
            written = triangle_array[image], coordinate_array[image]
            rasterize_coordinates(spans, mesh, y, x, *written)

        scan(vertices.numpy(), y, x, rasterize, torch.get_num_threads())
        ctx.save_for_backward(vertices, rows, columns, triangles)
        return coordinates.to(grid.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        vertices, rows, columns, triangles = ctx.saved_tensors
        exact = gradient if gradient.dtype == torch.float32 else gradient.double()
        gradients = torch.zeros_like(vertices)
        axes = rows.numpy(), columns.numpy()
        # One thread per image, since threads must not add to the same sums.
        images = zip(vertices, triangles, exact.contiguous(), gradients, strict=True)
        in_threads(
            [
                partial(coordinates_backward, v.numpy(), *axes, t.numpy(), g.numpy(), p.numpy())
                for v, t, g, p in images
            ],
            torch.get_num_threads(),
        )
        return gradients.to(gradient.dtype), None, None, None


def _inverse_anywhere(grid: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The same with tensor operations, on any device, without synchronisation."""
    mesh, distance = snapped(grid)
    axes = scan_axis(mesh, rows, "rows"), scan_axis(mesh, columns, "columns")
    with torch.no_grad():
        located = locate_anywhere(mesh, *axes, wait=False)
    weights = located.weights
    if grid.requires_grad and torch.is_grad_enabled():
        weights = weights - implicit_change(grid, mesh, located)
    points = small_points(mesh.size, located.triangle, weights).to(grid.dtype)
    valid = (distance <= BORDER_TOLERANCE).view(-1, 1, 1, 1) & _ascends(rows) & _ascends(columns)
    return points.where(valid, torch.nan)


def _ascends(values: Tensor) -> Tensor:
    """Whether values ascend within [-1, 1], a scalar."""
    inside = (values[0] >= -1 - BORDER_TOLERANCE) & (values[-1] <= 1 + BORDER_TOLERANCE)
    return inside & (values[1:] >= values[:-1]).all()


def small_points(size: Size, triangle: Tensor, weights: Tensor) -> Tensor:
    """From barycentric coordinates in a triangle to a normalised point of the small image."""
    h, w = size
    # An upper triangle starts at the upper left corner of its cell and steps right and down; a
    # lower triangle starts at the opposite corner and steps back.
    cell, lower = triangle // 2, triangle % 2
    step = 1 - 2 * lower
    x = cell % (w - 1) + lower + step * weights[..., 0]
    y = cell // (w - 1) + lower + step * weights[..., 1]
    return torch.stack((x * (2 / (w - 1)) - 1, y * (2 / (h - 1)) - 1), dim=-1)


def implicit_change(grid: Tensor, mesh: Mesh, located: Located) -> Tensor:
    """J^-1 (u(x*) - stop(u(x*))): zero in value, with a gradient to the grid's vertices."""
    b = grid.shape[0]
    indices = mesh.corners[located.triangle].view(b, -1, 1).expand(-1, -1, 2)
    vertices = grid.flatten(1, 2).to(mesh.inverse.dtype)
    corners = vertices.gather(1, indices).view(*located.triangle.shape, 3, 2)
    second, third = located.weights[..., None].unbind(-2)
    shares = torch.stack((1 - second - third, second, third), dim=-2)
    point = (corners * shares).sum(dim=-2)
    dx, dy = (point - point.detach()).unbind(-1)
    image = torch.arange(b, device=grid.device).view(b, 1, 1)
    px, py, qx, qy = mesh.inverse[image, located.triangle, 2:].unbind(-1)
    return torch.stack((px * dx + py * dy, qx * dx + qy * dy), dim=-1)
