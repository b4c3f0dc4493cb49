"""A sampling grid as a triangle mesh over the image, and point location in it.

The samples of a grid are the vertices of a mesh. Each of its cells is cut along the diagonal from
its upper right to its lower left corner into two triangles:

    a --- b        upper: a, b, c
    |   / |        lower: d, c, b
    | /   |
    c --- d

The mesh tiles the image. In a triangle the grid is a linear map, whose inverse is exact. Triangles
are found by scan conversion: a row of output points cuts a triangle in an interval, and the
intervals of all triangles tile the row without gaps.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.geometry.coordinates import check_grid
from deformsample.kernels.checks import BORDER_TOLERANCE, check_border
from deformsample.kernels.raster import Floats, Spans, rasterize_barycentric, scan


@dataclass(frozen=True)
class Mesh:
    """The triangles of a batch of grids: t = 2 (h - 1) (w - 1) per image."""

    vertices: Tensor
    """(b, h, w, 2), contiguous float64 (float32 on devices without it)."""

    @property
    def size(self) -> Size:
        """(h, w) of the grid."""
        return (self.vertices.shape[1], self.vertices.shape[2])

    @cached_property
    def corners(self) -> Tensor:
        """(t, 3) int64, flat indices of samples. The second corner is in the row of the first, the
        third in its column. Triangle 2 k is the upper triangle of cell k, 2 k + 1 the lower one.
        """
        return triangle_corners(self.size, self.vertices.device)

    @cached_property
    def points(self) -> Tensor:
        """(b, t, 3, 2): points of the corners."""
        return self.vertices.flatten(1, 2)[:, self.corners]

    @cached_property
    def inverse(self) -> Tensor:
        """(b, t, 6): the point of the first corner, and the rows of the inverse Jacobian."""
        return _inverse_maps(self.points)


class Located(NamedTuple):
    """Mesh coordinates of a regular grid of n x m image points."""

    triangle: Tensor
    """(b, n, m) int64: index of the triangle."""

    weights: Tensor
    """(b, n, m, 2): barycentric weights of the second and third corner, in [0, 1]."""


@torch.no_grad()
def triangulate(grid: Tensor) -> Mesh:
    """Prepare a grid for :func:`locate`.

    Args:
        grid: (b, h, w, 2) that covers the image.

    Returns:
        ``Mesh``.

    Raises:
        ArgumentError: wrong shape, or border samples that do not lie on the image border.
    """
    check_grid(grid)
    exact = torch.float32 if grid.device.type == "mps" else torch.float64
    return Mesh(_on_border(grid.to(exact)))


def triangle_corners(size: Size, device: torch.device) -> Tensor:
    """The corners of every triangle of a grid of ``size``, as in ``Mesh.corners``."""
    h, w = size
    a = torch.arange(h * w, device=device).view(h, w)[:-1, :-1].flatten()
    b, c, d = a + 1, a + w, a + w + 1
    return torch.stack((a, b, c, d, c, b), dim=1).view(-1, 3)


@torch.no_grad()
def locate(mesh: Mesh, rows: Tensor, columns: Tensor) -> Located:
    """Find the triangle and the barycentric coordinates of every point of a regular grid.

    Args:
        mesh: from :func:`triangulate`.
        rows: (n,) normalised y of the points, ascending, in [-1, 1].
        columns: (m,) normalised x of the points, ascending, in [-1, 1].

    Returns:
        ``Located``; where the mesh folds, one of the triangles that contain the point.

    Raises:
        ArgumentError: an axis that is empty, or exceeds [-1, 1].
    """
    rows = scan_axis(mesh, rows, "rows")
    columns = scan_axis(mesh, columns, "columns")
    if rows.device.type == "cpu":
        return _locate_compiled(mesh, rows, columns)
    return _locate_anywhere(mesh, rows, columns)


def scan_axis(mesh: Mesh, values: Tensor, name: str) -> Tensor:
    """Point coordinates in the dtype of the mesh, just inside the image.

    Spans are half-open, so that neighbours share no point. The last row and column would lie in no
    span, and are moved just inside.
    """
    if values.ndim != 1 or len(values) == 0:
        raise ArgumentError(
            f"Expected `{name}` of shape (n,) with n > 0, but got {tuple(values.shape)}."
        )
    values = values.to(mesh.vertices.dtype)
    low, high = float(values[0]), float(values[-1])
    inside = low >= -1 - BORDER_TOLERANCE and high <= 1 + BORDER_TOLERANCE
    if not inside or bool((values[1:] < values[:-1]).any()):
        raise ArgumentError(
            f"Expected `{name}` to ascend within [-1, 1], but got values from {low} to {high}"
            f"{'.' if not inside else ' that are not in order.'}"
        )
    return values.clamp(-1, 1 - 64 * torch.finfo(values.dtype).eps)


def _on_border(grid: Tensor) -> Tensor:
    """Move border samples exactly onto the border; they must be within the tolerance."""
    snapped = grid.clone(memory_format=torch.contiguous_format)
    for side, value in ((0, -1.0), (-1, 1.0)):
        snapped[:, :, side, 0] = value
        snapped[:, side, :, 1] = value
    check_border(float((snapped - grid).abs().max()))
    return snapped


def _inverse_maps(points: Tensor) -> Tensor:
    a, p, q = points.unbind(2)
    p, q = p - a, q - a
    area = p[..., 0] * q[..., 1] - p[..., 1] * q[..., 0]
    # A triangle without area contains only points of its edges; any weights are valid.
    area = torch.where(area == 0, torch.inf, area)
    rows = torch.stack((q[..., 1], -q[..., 0], -p[..., 1], p[..., 0]), dim=-1) / area[..., None]
    return torch.cat((a, rows), dim=-1)


def _locate_compiled(mesh: Mesh, rows: Tensor, columns: Tensor) -> Located:
    shape = (len(mesh.vertices), len(rows), len(columns))
    located = Located(
        torch.empty(shape, dtype=torch.long), torch.empty(*shape, 2, dtype=torch.float64)
    )
    triangles, weights, y, x = (t.numpy() for t in (*located, rows, columns))

    def rasterize(image: int, vertices: Floats, spans: Spans) -> None:
        rasterize_barycentric(spans, vertices, y, x, triangles[image], weights[image])

    scan(mesh.vertices.numpy(), y, x, rasterize, torch.get_num_threads())
    return located


def _locate_anywhere(mesh: Mesh, rows: Tensor, columns: Tensor) -> Located:
    """The same with tensor operations, on any device."""
    order = mesh.points[..., 1].argsort(dim=2)[..., None].expand(-1, -1, -1, 2)
    triangle = _scan(mesh.points.gather(2, order), rows, columns)
    return Located(triangle, _barycentric(mesh.inverse, triangle, rows, columns))


def _scan(by_height: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The index of the triangle at every point, (b, n, m)."""
    b, triangles = by_height.shape[:2]
    n, m = len(rows), len(columns)
    top, middle, bottom = by_height.flatten(0, 1).unbind(1)
    owner, row = _ranges(
        torch.searchsorted(rows, top[:, 1].contiguous()),
        torch.searchsorted(rows, bottom[:, 1].contiguous()),
    )
    y = rows[row]
    top, middle, bottom = top[owner], middle[owner], bottom[owner]
    above = (y < middle[:, 1])[:, None]
    long_x = _edge_x(top, bottom, y)
    short_x = _edge_x(torch.where(above, top, middle), torch.where(above, middle, bottom), y)
    span, column = _ranges(
        torch.searchsorted(columns, torch.minimum(long_x, short_x)),
        torch.searchsorted(columns, torch.maximum(long_x, short_x)),
    )
    owner, row = owner[span], row[span]
    triangle = torch.full((b * n * m,), -1, dtype=torch.long, device=rows.device)
    triangle[(owner // triangles * n + row) * m + column] = owner % triangles
    if bool((triangle < 0).any()):
        # Due to rounding, a point can lie between two triangles; it takes its predecessor's.
        index = torch.arange(len(triangle), device=triangle.device)
        triangle = triangle[index.where(triangle >= 0, 0).cummax(0).values].clamp_min(0)
    return triangle.view(b, n, m)


def _edge_x(upper: Tensor, lower: Tensor, y: Tensor) -> Tensor:
    """The x at which an edge crosses row y, computed identically for both triangles of the edge."""
    t = (y - upper[:, 1]) / (lower[:, 1] - upper[:, 1])
    return torch.lerp(upper[:, 0], lower[:, 0], t)


def _ranges(first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """All integers of the ranges first <= i < last: the index of the range, and i."""
    count = (last - first).clamp_min(0)
    owner = torch.repeat_interleave(count)
    start = first - (count.cumsum(0) - count)
    return owner, torch.arange(len(owner), device=first.device) + start[owner]


def _barycentric(inverse: Tensor, triangle: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    b, triangles = inverse.shape[:2]
    image = torch.arange(b, device=triangle.device).view(b, 1, 1) * triangles
    x0, y0, px, py, qx, qy = inverse.flatten(0, 1)[triangle + image].unbind(-1)
    dx, dy = columns - x0, rows[:, None] - y0
    second = (px * dx + py * dy).clamp(0, 1)
    third = torch.minimum((qx * dx + qy * dy).clamp_min(0), 1 - second)
    return torch.stack((second, third), dim=-1)
