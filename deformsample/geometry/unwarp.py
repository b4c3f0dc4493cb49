"""Unwarping: from values at the samples to the full image.

Every pixel lies in one triangle of the mesh of the grid (see :mod:`.mesh`) and gets the linear
interpolation of the three corners. Where the corners agree on the class, the whole triangle has
that class, since linear interpolation keeps the order of logits.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from deformsample.conventions import Size
from deformsample.geometry.coordinates import axis, check_grid, check_size
from deformsample.geometry.dispatch import is_constant, untraced
from deformsample.geometry.inverse import inverse_coordinates
from deformsample.geometry.mesh import Located, Mesh, locate, triangulate
from deformsample.geometry.walk import walked
from deformsample.kernels.checks import NO_CLASS, check_class_count, check_values_shape
from deformsample.kernels.interpolation import labels_at, pixel_axes, values_at
from deformsample.kernels.raster import Floats

_BLOCK_VALUES = 1 << 22
"""Interpolated values per block; with the values of their corners about 60 MB."""


@untraced
def unwarp(values: Tensor, grid: Tensor, size: Size) -> Tensor:
    """Interpolate values at the samples of a grid at every pixel of the image.

    Args:
        values: (b, c, h, w), a float dtype: logits, probabilities, colours.
        grid: (b, h, w, 2), a mesh that covers the image.
        size: (H, W) of the image.

    Returns:
        (b, c, H, W), differentiable in ``values``, and in a ``grid`` that requires a gradient.
        Otherwise computed in blocks of rows, whose memory does not grow with the image.

    Raises:
        ArgumentError: wrong shapes, or a grid that leaves part of the image uncovered.

    Example:
        >>> grid = torch.tensor([[[[-1.0, -1.0], [1.0, -1.0]], [[-1.0, 1.0], [1.0, 1.0]]]])
        >>> unwarp(torch.tensor([[[[0.0, 4.0], [0.0, 4.0]]]]), grid, (3, 5))[0, 0].round().tolist()
        [[0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0, 4.0], [0.0, 1.0, 2.0, 3.0, 4.0]]
    """
    _check_values(values, grid, size)
    if grid.requires_grad and torch.is_grad_enabled():
        height, width = (axis(n, grid) for n in size)
        return interpolate_mesh(values, inverse_coordinates(grid, height, width))
    mesh = triangulate(grid)
    table = values.flatten(2).mT.contiguous()
    if is_constant(values) and values.dtype == torch.float32:
        return _values_compiled(mesh, table, size)
    corners = mesh.corners
    image = torch.arange(len(table), device=table.device).view(-1, 1, 1)
    blocks = []
    for located in mesh_blocks(mesh, size, values.shape[1]):
        indices = corners[located.triangle]
        shares = corner_shares(located.weights).to(table.dtype)
        blocks.append(corner_sum(table, image, indices, shares))
    return torch.cat(blocks, dim=1).movedim(-1, 1)


@untraced
@torch.no_grad()
def unwarp_labels(logits: Tensor, grid: Tensor, size: Size) -> Tensor:
    """The class of every pixel of the image, from logits at the samples of a grid.

    Equal to the argmax of :func:`unwarp` with less memory: full-size logits are computed for a few
    rows at a time, and only where the corners of a triangle disagree. During ``torch.export``, the
    graph gets operations of fixed shapes, and the grid is not checked.

    Args:
        logits: (b, k, h, w), a float dtype, k at most 254.
        grid: (b, h, w, 2), a mesh that covers the image.
        size: (H, W) of the image.

    Returns:
        (b, H, W) uint8.

    Raises:
        ArgumentError: wrong shapes, too many classes, or a grid that leaves part of the image
            uncovered.

    Example:
        >>> grid = torch.tensor([[[[-1.0, -1.0], [1.0, -1.0]], [[-1.0, 1.0], [1.0, 1.0]]]])
        >>> logits = torch.tensor([[[[1.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [0.0, 2.0]]]])
        >>> unwarp_labels(logits, grid, (2, 6)).tolist()
        [[[0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]]]
    """
    if torch.compiler.is_compiling():
        return _labels_in_graph(logits, grid, size)
    mesh, table, winners = _prepared(logits, grid, size)
    if logits.device.type == "cpu":
        return _labels_compiled(mesh, table, winners, *pixel_axes(size))
    return _labels(mesh, table, winners, size)


@torch.no_grad()
def label_bands(logits: Tensor, grid: Tensor, size: Size, rows: int) -> Iterator[Tensor]:
    """The labels of :func:`unwarp_labels` in bands from top to bottom.

    Args:
        logits: (1, k, h, w), as in :func:`unwarp_labels`, on the CPU.
        grid: (1, h, w, 2).
        size: (H, W) of the image.
        rows: rows of a band.

    Yields:
        (rows, W) uint8; the last band may have fewer rows.
    """
    mesh, table, winners = _prepared(logits, grid, size)
    height, width = pixel_axes(size)
    for first in range(0, len(height), rows):
        band = height[first : first + rows]
        yield _labels_compiled(mesh, table, winners, band, width)[0]


def _prepared(logits: Tensor, grid: Tensor, size: Size) -> tuple[Mesh, Tensor, Tensor]:
    """The mesh, and logits (b, h * w, k) and classes (b, h * w) of the samples."""
    _check_values(logits, grid, size)
    check_class_count(logits.shape[1])
    table = logits.flatten(2).mT.contiguous()
    return triangulate(grid), table, table.argmax(dim=-1).to(torch.uint8)


def _values_compiled(mesh: Mesh, table: Tensor, size: Size) -> Tensor:
    threads = torch.get_num_threads()
    values = values_at(mesh.vertices.numpy(), table.numpy(), *pixel_axes(size), threads)
    return torch.from_numpy(values)


def _labels_compiled(
    mesh: Mesh, table: Tensor, winners: Tensor, rows: Floats, columns: Floats
) -> Tensor:
    arrays = mesh.vertices.numpy(), table.float().numpy(), winners.numpy()
    return torch.from_numpy(labels_at(*arrays, rows, columns, torch.get_num_threads()))


def _labels(mesh: Mesh, table: Tensor, winners: Tensor, size: Size) -> Tensor:
    corners = mesh.corners
    corner_class = winners[:, corners]
    disputed = (corner_class[..., 1:] != corner_class[..., :1]).any(dim=-1)
    agreed = corner_class[..., 0].masked_fill(disputed, NO_CLASS)
    image = torch.arange(len(table), device=table.device).view(-1, 1, 1)
    blocks = []
    for located in mesh_blocks(mesh, size, table.shape[2]):
        labels = agreed[image, located.triangle]
        where = (labels == NO_CLASS).nonzero(as_tuple=True)
        indices = corners[located.triangle[where]]
        shares = corner_shares(located.weights[where]).to(table.dtype)
        logits = corner_sum(table, where[0], indices, shares)
        labels[where] = logits.argmax(dim=-1).to(torch.uint8)
        blocks.append(labels)
    return torch.cat(blocks, dim=1)


def _labels_in_graph(logits: Tensor, grid: Tensor, size: Size) -> Tensor:
    _check_values(logits, grid, size)
    check_class_count(logits.shape[1])
    table = logits.flatten(2).mT
    image = torch.arange(len(table), device=table.device).view(-1, 1, 1)
    blocks = []
    for mesh, located in walked(grid, size, table.shape[2]):
        indices = mesh.corners[located.triangle]
        values = corner_sum(table, image, indices, corner_shares(located.weights).to(table.dtype))
        blocks.append(values.argmax(dim=-1).to(torch.uint8))
    return torch.cat(blocks, dim=1)


def interpolate_mesh(values: Tensor, coordinates: Tensor) -> Tensor:
    """Values between the samples, interpolated linearly in the triangles of the mesh.

    With coordinates from :func:`inverse_coordinates` this is :func:`unwarp` at a regular grid of
    points, with gradients to the values and, through the coordinates, to the sampling grid.

    Args:
        values: (b, c, h, w) at the samples.
        coordinates: (b, n, m, 2) normalised points of the small image.

    Returns:
        (b, c, n, m).

    Example:
        >>> values = torch.tensor([[[[0.0, 4.0], [0.0, 4.0]]]])
        >>> interpolate_mesh(values, torch.tensor([[[[0.0, 0.0], [0.5, -1.0]]]])).tolist()
        [[[[2.0, 3.0]]]]
    """
    b, c, h, w = values.shape
    _, n, m, _ = coordinates.shape
    x = (coordinates[..., 0] + 1) * ((w - 1) / 2)
    y = (coordinates[..., 1] + 1) * ((h - 1) / 2)
    j = x.detach().nan_to_num().floor().clamp(0, w - 2)
    i = y.detach().nan_to_num().floor().clamp(0, h - 2)
    x, y = x - j, y - i
    lower = x.detach() + y.detach() > 1
    weights = torch.where(
        lower[..., None], torch.stack((1 - y, 1 - x), -1), torch.stack((x, y), -1)
    )
    a = (i * w + j).long()
    indices = torch.stack((a + lower * (w + 1), a + 1, a + w), dim=-1).flatten(1)
    table = values.flatten(2).mT
    corners = table.gather(1, indices[..., None].expand(-1, -1, c)).view(b, n, m, 3, c)
    first = 1 - weights.sum(dim=-1, keepdim=True)
    # Corners of the lower triangle: d, then b (above it), then c (left of it).
    barycentric = torch.cat((first, weights), dim=-1).to(values.dtype)

    return (corners * barycentric[..., None]).sum(dim=3).movedim(-1, 1)


def _check_values(values: Tensor, grid: Tensor, size: Size) -> None:
    check_grid(grid)
    check_size(size, "size")
    check_values_shape(values.shape, grid.shape)


def mesh_blocks(mesh: Mesh, size: Size, channels: int) -> Iterator[Located]:
    """The mesh coordinates of all pixels, in blocks of rows."""
    rows, columns = (torch.from_numpy(a).to(mesh.vertices) for a in pixel_axes(size))
    values_per_row = len(mesh.vertices) * size[1] * (channels + 16)  # 16 for the coordinates
    for block in rows.split(max(1, _BLOCK_VALUES // values_per_row)):
        yield locate(mesh, block, columns)


def corner_sum(table: Tensor, image: Tensor, indices: Tensor, shares: Tensor) -> Tensor:
    """Weighted sum of the three corners, added one by one to save memory."""
    total = table[image, indices[..., 0]] * shares[..., 0, None]
    for corner in (1, 2):
        total = total + table[image, indices[..., corner]] * shares[..., corner, None]
    return total


def corner_shares(weights: Tensor) -> Tensor:
    """The weights of all three corners, from the weights of the second and third."""
    return torch.cat((1 - weights.sum(dim=-1, keepdim=True), weights), dim=-1)
