"""The inverse of a sampling grid: which point of the small image does an output point see?"""

from __future__ import annotations

import torch
from torch import Tensor

from deformsample.geometry.mesh import Located, Mesh, locate, triangulate


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
        ArgumentError: wrong shapes, a grid that leaves part of the image uncovered, or points
            outside [-1, 1].
    """
    mesh = triangulate(grid)
    located = locate(mesh, rows, columns)
    weights = located.weights
    if grid.requires_grad and torch.is_grad_enabled():
        weights = weights - _implicit_change(grid, mesh, located)
    return _small_points(mesh, located.triangle, weights).to(grid.dtype)


def _small_points(mesh: Mesh, triangle: Tensor, weights: Tensor) -> Tensor:
    """From a place in a triangle to a normalised point of the small image."""
    h, w = mesh.size
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
