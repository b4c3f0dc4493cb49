"""Unwarping of arrays; see :mod:`deformsample.geometry`."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import numpy.typing as npt

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.kernels.checks import (
    check_border,
    check_class_count,
    check_grid_shape,
    check_size,
    check_values_shape,
)
from deformsample.kernels.raster import (
    Floats,
    Spans,
    rasterize_guided,
    rasterize_labels,
    rasterize_values,
    scan,
)

Labels = npt.NDArray[np.uint8]
Singles = npt.NDArray[np.float32]

JUST_INSIDE = 1 - 64 * float(np.finfo(np.float64).eps)
"""Coordinate of the last row and column of pixels. Spans are half-open, so that neighbours share no
point; at 1, these pixels would lie in no span."""


def unwarp(
    values: npt.NDArray[Any], grid: npt.NDArray[Any], size: Size, threads: int | None = None
) -> Singles:
    """Unwarp values at the samples of a grid, as :func:`.geometry.unwarp` does.

    Args:
        values: (b, c, h, w): logits, probabilities, colours.
        grid: (b, h, w, 2), a mesh that covers the image.
        size: (H, W) of the image.
        threads: number of threads; ``None`` for one per CPU.

    Returns:
        (b, c, H, W) float32.

    Raises:
        ArgumentError: wrong shapes, or a grid that leaves part of the image uncovered.

    Example:
        >>> grid = np.array([[[[-1.0, -1.0], [1.0, -1.0]], [[-1.0, 1.0], [1.0, 1.0]]]])
        >>> unwarp(np.zeros((1, 3, 2, 2)), grid, (20, 30)).shape
        (1, 3, 20, 30)
    """
    vertices, table = _prepared(values, grid, size)
    return values_at(vertices, table, *pixel_axes(size), threads or _cpus())


def unwarp_labels(
    logits: npt.NDArray[Any], grid: npt.NDArray[Any], size: Size, threads: int | None = None
) -> Labels:
    """The class of every pixel, as from :func:`.geometry.unwarp_labels`.

    Args:
        logits: (b, k, h, w), k at most 254.
        grid: (b, h, w, 2), a mesh that covers the image.
        size: (H, W) of the image.
        threads: number of threads; ``None`` for one per CPU.

    Returns:
        (b, H, W) uint8.

    Raises:
        ArgumentError: wrong shapes, too many classes, or a grid that leaves part of the image
            uncovered.

    Example:
        >>> grid = np.array([[[[-1.0, -1.0], [1.0, -1.0]], [[-1.0, 1.0], [1.0, 1.0]]]])
        >>> logits = np.array([[[[1.0, 0.0], [1.0, 0.0]], [[0.0, 2.0], [0.0, 2.0]]]])
        >>> unwarp_labels(logits, grid, (2, 6)).tolist()
        [[[0, 0, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1]]]
    """
    vertices, table = _prepared(logits, grid, size)
    check_class_count(table.shape[2])
    winners = table.argmax(axis=2).astype(np.uint8)
    return labels_at(vertices, table, winners, *pixel_axes(size), threads or _cpus())


def values_at(
    vertices: Floats, table: npt.NDArray[Any], rows: Floats, columns: Floats, threads: int
) -> Singles:
    """Values at a regular grid of points, interpolated linearly in the triangles of the meshes.

    Args:
        vertices: (b, h, w, 2), contiguous; border samples exactly on the border.
        table: (b, h * w, c) at the samples.
        rows: (n,) y of the points, ascending, at most ``JUST_INSIDE``.
        columns: (m,) x of the points, likewise.
        threads: number of threads.

    Returns:
        (b, c, n, m).
    """
    samples = table.astype(np.float32, copy=False)
    values = np.empty((len(table), table.shape[2], len(rows), len(columns)), np.float32)

    def rasterize(image: int, mesh: Floats, spans: Spans) -> None:
        rasterize_values(spans, mesh, samples[image], rows, columns, values[image])

    scan(vertices, rows, columns, rasterize, threads)
    return values


def labels_at(
    vertices: Floats,
    table: npt.NDArray[Any],
    winners: Labels,
    rows: Floats,
    columns: Floats,
    threads: int,
) -> Labels:
    """The class at a regular grid of points.

    Args:
        vertices: as in :func:`values_at`.
        table: (b, h * w, k), logits at the samples.
        winners: (b, h * w), the class of each sample.
        rows: as in :func:`values_at`.
        columns: as in :func:`values_at`.
        threads: number of threads.

    Returns:
        (b, n, m).
    """
    logits = table.astype(np.float32, copy=False)
    labels = np.empty((len(table), len(rows), len(columns)), np.uint8)

    def rasterize(image: int, mesh: Floats, spans: Spans) -> None:
        rasterize_labels(spans, mesh, logits[image], winners[image], rows, columns, labels[image])

    scan(vertices, rows, columns, rasterize, threads)
    return labels


def guided_labels_at(
    vertices: Floats,
    coefficients: Singles,
    winners: Labels,
    near: npt.NDArray[np.bool_],
    image: npt.NDArray[Any],
    rows: Floats,
    columns: Floats,
    threads: int,
) -> Labels:
    """The class at a regular grid of points, from their colours.

    Args:
        vertices: as in :func:`values_at`.
        coefficients: (b, h * w, k, 4), logits at the samples as affine functions of the colour.
        winners: (b, h * w), the class of each sample.
        near: (b, (h - 1) * (w - 1)), the cells near a boundary.
        image: (b, 3, n, m), contiguous, the colours of the points.
        rows: as in :func:`values_at`.
        columns: as in :func:`values_at`.
        threads: number of threads.

    Returns:
        (b, n, m).
    """
    labels = np.empty((len(vertices), len(rows), len(columns)), np.uint8)

    def rasterize(index: int, mesh: Floats, spans: Spans) -> None:
        arrays = coefficients[index], winners[index], near[index], image[index]
        rasterize_guided(spans, mesh, *arrays, rows, columns, labels[index])

    scan(vertices, rows, columns, rasterize, threads)
    return labels


def pixel_axes(size: Size) -> tuple[Floats, Floats]:
    """The y of an image's rows and the x of its columns, normalised, for :func:`values_at`."""
    height, width = size
    return _pixel_axis(height), _pixel_axis(width)


def _pixel_axis(count: int) -> Floats:
    from_left = np.arange(count) * (2 / (count - 1)) - 1
    symmetric = np.where(2 * np.arange(count) < count, from_left, -from_left[::-1])
    return np.minimum(symmetric, JUST_INSIDE)


def _prepared(
    values: npt.NDArray[Any], grid: npt.NDArray[Any], size: Size
) -> tuple[Floats, npt.NDArray[Any]]:
    """The vertices (b, h, w, 2), and the values as a table (b, h * w, c)."""
    check_grid_shape(grid.shape)
    check_values_shape(values.shape, grid.shape)
    check_size(size, "size")
    for name, array in (("grid", grid), ("values", values)):
        if not np.issubdtype(array.dtype, np.floating):
            raise ArgumentError(f"Expected `{name}` of a float dtype, but got {array.dtype}.")
    b, c = values.shape[:2]
    return _on_border(grid), np.ascontiguousarray(values.reshape(b, c, -1).transpose(0, 2, 1))


def _on_border(grid: npt.NDArray[Any]) -> Floats:
    """Move border samples exactly onto the border; they must be within the tolerance."""
    vertices = np.array(grid, np.float64, order="C")
    for side, value in ((0, -1.0), (-1, 1.0)):
        vertices[:, :, side, 0] = value
        vertices[:, side, :, 1] = value
    check_border(float(np.abs(vertices - grid).max()))
    return vertices


def _cpus() -> int:
    return os.cpu_count() or 1
