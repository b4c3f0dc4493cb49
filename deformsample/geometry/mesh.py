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
from typing import NamedTuple

import torch
from torch import Tensor

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.geometry.coordinates import check_grid
from deformsample.geometry.dispatch import is_readable
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

    @property
    def corners(self) -> Tensor:
        """(t, 3) int64, flat indices of samples. The second corner is in the row of the first, the
        third in its column. Triangle 2 k is the upper triangle of cell k, 2 k + 1 the lower one.
        """
        return triangle_corners(self.size, self.vertices.device)

    @property
    def points(self) -> Tensor:
        """(b, t, 3, 2): points of the corners."""
        return self.vertices.flatten(1, 2)[:, self.corners]

    @property
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
    mesh, distance = snapped(grid)
    check_border(float(distance.max()))
    return mesh


@torch.no_grad()
def snapped(grid: Tensor) -> tuple[Mesh, Tensor]:
    """The mesh of a grid whose border samples are moved exactly onto the border.

    Args:
        grid: (b, h, w, 2).

    Returns:
        ``Mesh``, and the largest distance of such a move in each image, (b,): NaN for a grid with
        coordinates that are not finite.
    """
    check_grid(grid)
    grid = grid.to(torch.float32 if grid.device.type == "mps" else torch.float64)
    moved = grid.clone(memory_format=torch.contiguous_format)
    for side, value in ((0, -1.0), (-1, 1.0)):
        moved[:, :, side, 0] = value
        moved[:, side, :, 1] = value
    return Mesh(moved), (moved - grid).abs().amax(dim=(1, 2, 3))


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
    if is_readable(rows):
        return _locate_compiled(mesh, rows, columns)
    return locate_anywhere(mesh, rows, columns)


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
    if is_readable(values):
        low, high = float(values[0]), float(values[-1])
        inside = low >= -1 - BORDER_TOLERANCE and high <= 1 + BORDER_TOLERANCE
        if not inside or bool((values[1:] < values[:-1]).any()):
            raise ArgumentError(
                f"Expected `{name}` to ascend within [-1, 1], but got values from {low} to {high}"
                f"{'.' if not inside else ' that are not in order.'}"
            )
    return values.clamp(-1, 1 - 64 * torch.finfo(values.dtype).eps)


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


def locate_anywhere(mesh: Mesh, rows: Tensor, columns: Tensor, *, wait: bool = True) -> Located:
    """The same with tensor operations, on any device.

    Args:
        mesh: from :func:`triangulate`.
        rows: (n,) in the dtype of the mesh, from :func:`scan_axis`.
        columns: (m,), likewise.
        wait: whether the sizes of intermediate results are read from the device. Otherwise they
            are bounds, which hold for rows all over the image and for grids of densities. Such a
            grid is the gradient of a convex function of coordinates whose units have some aspect r
            (width by height): |du_y/dx| <= r (du_x/dx + du_y/dy) / 2. The heights of its triangles
            then sum up to at most 4 (w - 1 + r (h - 1)), which is within the bound for an r of up
            to 2 + (w - 1) / (h - 1); density maps with the aspect of the grid have the latter.
            Points of a mesh beyond the bounds can get a wrong triangle.
    """
    h, w = mesh.size
    order = mesh.points[..., 1].argsort(dim=2)[..., None].expand(-1, -1, -1, 2)
    by_height = mesh.points.gather(2, order)
    spans = None if wait else 4 * len(rows) * (h + w - 2) + by_height.shape[1]
    # Without folds, the spans of the triangles tile the rows.
    points = None if wait else 2 * len(rows) * len(columns)
    triangle = _scan(by_height, rows, columns, spans, points)
    return Located(triangle, _barycentric(mesh.inverse, triangle, rows, columns))


def _scan(
    by_height: Tensor, rows: Tensor, columns: Tensor, spans: int | None, points: int | None
) -> Tensor:
    """The index of the triangle at every point, (b, n, m)."""
    b = len(by_height)
    n, m = len(rows), len(columns)
    heights = by_height[..., 1]
    owner, row, used = _ranges(
        torch.searchsorted(rows, heights[..., 0].contiguous()),
        torch.searchsorted(rows, heights[..., 2].contiguous()),
        spans,
    )
    row = row.clamp(0, n - 1)
    y = rows[row]
    corners = by_height.flatten(2).gather(1, owner[..., None].expand(-1, -1, 6))
    top, middle, bottom = corners.unflatten(2, (3, 2)).unbind(2)
    above = (y < middle[..., 1])[..., None]
    long_x = _edge_x(top, bottom, y)
    short_x = _edge_x(torch.where(above, top, middle), torch.where(above, middle, bottom), y)
    first = torch.searchsorted(columns, torch.minimum(long_x, short_x))
    last = torch.searchsorted(columns, torch.maximum(long_x, short_x))
    span, column, hit = _ranges(first, last.where(used, 0), points)
    point = row.gather(1, span) * m + column
    # Unused slots write behind the last point.
    point = point.where(hit, n * m)
    triangle = torch.full((b, n * m + 1), -1, dtype=torch.long, device=rows.device)
    triangle = triangle.scatter(1, point, owner.gather(1, span))[:, :-1]
    # Due to rounding, a point can lie between two triangles; it takes its predecessor's.
    index = torch.arange(n * m, device=triangle.device)
    filled = triangle.gather(1, index.where(triangle >= 0, 0).cummax(1).values)
    return filled.clamp_min(0).view(b, n, m)


def _edge_x(upper: Tensor, lower: Tensor, y: Tensor) -> Tensor:
    """The x at which an edge crosses row y, computed identically for both triangles of the edge."""
    t = (y - upper[..., 1]) / (lower[..., 1] - upper[..., 1])
    return torch.lerp(upper[..., 0], lower[..., 0], t)


def _ranges(first: Tensor, last: Tensor, size: int | None) -> tuple[Tensor, Tensor, Tensor]:
    """All integers of the ranges first <= i < last, (b, r), of each image.

    Returns:
        The index of the range, i, and whether the slot is used, each (b, size); without a size,
        that of the image with the most integers.
    """
    count = (last - first).clamp_min(0)
    end = count.cumsum(1)
    if size is None:
        size = int(end[:, -1].max())
    slot = torch.arange(size, device=first.device).expand(len(first), -1).contiguous()
    owner = torch.searchsorted(end, slot, right=True).clamp_max(first.shape[1] - 1)
    start = first - (end - count)
    return owner, slot + start.gather(1, owner), slot < end[:, -1:]


def _barycentric(inverse: Tensor, triangle: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    b, triangles = inverse.shape[:2]
    image = torch.arange(b, device=triangle.device).view(b, 1, 1) * triangles
    x0, y0, px, py, qx, qy = inverse.flatten(0, 1)[triangle + image].unbind(-1)
    dx, dy = columns - x0, rows[:, None] - y0
    second = (px * dx + py * dy).clamp(0, 1)
    third = torch.minimum((qx * dx + qy * dy).clamp_min(0), 1 - second)
    return torch.stack((second, third), dim=-1)
