"""The inverse of a sampling grid: which point of the small image does an output point see?"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.geometry.dispatch import untraced
from deformsample.geometry.mesh import Located, Mesh, locate, scan_axis, triangulate
from deformsample.kernels.compiled import in_threads
from deformsample.kernels.raster import Floats, Runs, paint_coordinates, pull_back, scan


@untraced
def inverse_coordinates(grid: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Invert a grid at a lattice of image points.

    The gradient to the grid is that of the exact inverse, by implicit differentiation: from
    u(x*) = y follows dx* = -J(x*)^-1 du, with J the Jacobian of the triangle that holds x*.

    Args:
        grid: (b, h, w, 2), a mesh that covers the image: its border samples lie on the border.
        rows: (n,) normalised y of the image points, ascending, in [-1, 1].
        columns: (m,) normalised x of the image points, ascending, in [-1, 1].

    Returns:
        (b, n, m, 2) normalised points x* of the small image, with u(x*) = (columns, rows) under
        linear interpolation of the grid in its triangles.

    Raises:
        ArgumentError: wrong shapes, a grid that leaves part of the image uncovered, points
            outside [-1, 1], or ``torch.export`` at work.
    """
    if torch.compiler.is_compiling():
        raise ArgumentError(
            "Expected a sampler of tensor operations alone, but this one inverts its grid, which "
            "no exported graph can do."
        )
    mesh = triangulate(grid)
    if grid.device.type == "cpu":
        axes = scan_axis(mesh, rows, "rows"), scan_axis(mesh, columns, "columns")
        coordinates: Tensor = _CompiledInverse.apply(grid, mesh.vertices, *axes)
        return coordinates
    return _inverse_anywhere(grid, mesh, rows, columns)


class _CompiledInverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, grid: Tensor, vertices: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
        shape = (len(grid), len(rows), len(columns))
        triangles = torch.empty(shape, dtype=torch.int32)
        exact = grid.dtype in (torch.float32, torch.float64)
        coordinates = torch.empty(*shape, 2, dtype=grid.dtype if exact else torch.float32)
        y, x, found, written = (t.numpy() for t in (rows, columns, triangles, coordinates))

        def paint(image: int, own: Floats, runs: Runs) -> None:
            paint_coordinates(runs, own, y, x, found[image], written[image])

        scan(vertices.numpy(), y, x, paint, torch.get_num_threads())
        ctx.save_for_backward(vertices, rows, columns, triangles)
        return coordinates.to(grid.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        vertices, rows, columns, triangles = ctx.saved_tensors
        exact = gradient if gradient.dtype == torch.float32 else gradient.double()
        pulls = torch.zeros_like(vertices)
        axes = rows.numpy(), columns.numpy()
        # One thread for each image: the sums of two would be in each other's way.
        images = zip(vertices, triangles, exact.contiguous(), pulls, strict=True)
        in_threads(
            [
                partial(pull_back, v.numpy(), *axes, t.numpy(), g.numpy(), p.numpy())
                for v, t, g, p in images
            ],
            torch.get_num_threads(),
        )
        return pulls.to(gradient.dtype), None, None, None


def _inverse_anywhere(grid: Tensor, mesh: Mesh, rows: Tensor, columns: Tensor) -> Tensor:
    """The same by tensor operations, on any device."""
    located = locate(mesh, rows, columns)
    weights = located.weights
    if grid.requires_grad and torch.is_grad_enabled():
        weights = weights - _implicit_change(grid, mesh, located)
    return _small_points(mesh.size, located.triangle, weights).to(grid.dtype)


def _small_points(size: Size, triangle: Tensor, weights: Tensor) -> Tensor:
    """From a place in a triangle to a normalised point of the small image."""
    h, w = size
    # An upper triangle starts at its cell's upper left corner and steps right and down, a lower
    # one starts at the opposite corner and steps back.
    cell, lower = triangle // 2, triangle % 2
    step = 1 - 2 * lower
    x = cell % (w - 1) + lower + step * weights[..., 0]
    y = cell // (w - 1) + lower + step * weights[..., 1]
    return torch.stack((x * (2 / (w - 1)) - 1, y * (2 / (h - 1)) - 1), dim=-1)


def _implicit_change(grid: Tensor, mesh: Mesh, located: Located) -> Tensor:
    """J^-1 (u(x*) - stop(u(x*))): zero in value, with a gradient to the grid's vertices."""
    b = grid.shape[0]
    numbers = mesh.corners[located.triangle].view(b, -1, 1).expand(-1, -1, 2)
    vertices = grid.flatten(1, 2).to(mesh.inverse.dtype)
    corners = vertices.gather(1, numbers).view(*located.triangle.shape, 3, 2)
    second, third = located.weights[..., None].unbind(-2)
    shares = torch.stack((1 - second - third, second, third), dim=-2)
    point = (corners * shares).sum(dim=-2)
    dx, dy = (point - point.detach()).unbind(-1)
    image = torch.arange(b, device=grid.device).view(b, 1, 1)
    px, py, qx, qy = mesh.inverse[image, located.triangle, 2:].unbind(-1)
    return torch.stack((px * dx + py * dy, qx * dx + qy * dy), dim=-1)
