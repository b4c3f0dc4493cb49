"""Scanning a mesh on a CPU, compiled.

The rows of the output are cut into bands, which threads work on side by side. Every row cuts a
triangle in a span of pixels, from its long edge to one of its short ones, closed at the start and
open at the end. An edge's crossing is worked out from the same two points for both of its
triangles, so that the spans of all triangles tile the row. Spans come in the order of the
triangles: where a mesh folds the last one wins, whatever the number of threads.

Functions rasterize the spans of a band: with the winning class of values at the samples, with the
values, or with the barycentric coordinates. See
:mod:`deformsample.geometry.mesh` for the triangles.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from deformsample.kernels.compiled import compiled, in_bands

Floats = npt.NDArray[np.float64]
Spans = npt.NDArray[np.int32]
"""(n, 4): row, first column, column after the last one, triangle."""


def scan(
    vertices: Floats,
    rows: Floats,
    columns: Floats,
    rasterize: Callable[[int, Floats, Spans], object],
    threads: int,
) -> None:
    """Cut the meshes of a batch in spans and rasterize them.

    Args:
        vertices: (b, h, w, 2), contiguous.
        rows: (n,) y of the pixels, ascending.
        columns: (m,) x of the pixels, ascending.
        rasterize: called with the index of an image, its vertices (h, w, 2) and the spans of a
            band; in several threads, whose spans have no row in common.
        threads: how many bands at a time.
    """

    def work(image: int, mesh: Floats, first: int, last: int) -> None:
        rasterize(image, mesh, spans_of_band(mesh, rows, columns, first, last))

    for image, mesh in enumerate(vertices):
        in_bands(len(rows), len(rows) * len(columns), partial(work, image, mesh), threads)


@compiled
def _first_at(axis: Floats, value: float, per_unit: float) -> int:
    """The first of an ascending axis' points that is not below a value; guess, then walk."""
    count = len(axis)
    i = min(max(int((value - axis[0]) * per_unit), 0), count)
    while i > 0 and axis[i - 1] >= value:
        i -= 1
    while i < count and axis[i] < value:
        i += 1
    return i


@compiled
def _points_per_unit(axis: Floats) -> float:
    length: float = axis[-1] - axis[0]
    return (len(axis) - 1) / length if length > 0 else 0.0


@compiled
def corners_of(triangle: int, width: int) -> tuple[int, int, int]:
    """The samples at a triangle's corners, for a grid of ``width`` samples a row."""
    cell = triangle // 2
    a = cell // (width - 1) * width + cell % (width - 1)
    if triangle % 2 == 0:
        return a, a + 1, a + width
    return a + width + 1, a + width, a + 1


@compiled
def spans_of_band(vertices: Floats, rows: Floats, columns: Floats, first: int, last: int) -> Spans:
    """The spans of the rows first <= i < last, which cover all their pixels.

    Args:
        vertices: (h, w, 2), the samples' normalised points.
        rows: (n,) y of the pixels, ascending.
        columns: (m,) x of the pixels, ascending.
        first: row.
        last: row.
    """
    height, width = vertices.shape[:2]
    points = vertices.reshape(-1, 2)
    per_row, per_column = _points_per_unit(rows), _points_per_unit(columns)
    spans = np.empty((256 + (last - first) * width * 2, 4), np.int32)
    count = 0
    covered = np.zeros(last - first, np.int64)
    folds = False
    for cell_row in range(height - 1):
        ends = vertices[cell_row : cell_row + 2, :, 1]
        if ends.min() > rows[last - 1] or ends.max() <= rows[first]:
            continue
        for triangle in range(2 * cell_row * (width - 1), 2 * (cell_row + 1) * (width - 1)):
            p, q, r = corners_of(triangle, width)
            folds |= not (
                (points[q, 0] - points[p, 0]) * (points[r, 1] - points[p, 1])
                >= (points[q, 1] - points[p, 1]) * (points[r, 0] - points[p, 0])
            )
            if points[q, 1] < points[p, 1]:
                p, q = q, p
            if points[r, 1] < points[q, 1]:
                q, r = r, q
                if points[q, 1] < points[p, 1]:
                    p, q = q, p
            (x0, y0), (x1, y1), (x2, y2) = points[p], points[q], points[r]
            if not (y0 < y2 and y0 <= rows[last - 1] and y2 > rows[first]):
                continue
            long = (x2 - x0) / (y2 - y0)
            upper, lower = (x1 - x0) / (y1 - y0), (x2 - x1) / (y2 - y1)
            row = max(first, _first_at(rows, y0, per_row))
            while row < last and rows[row] < y2:
                y = rows[row]
                one = x0 + (y - y0) * long
                other = x0 + (y - y0) * upper if y < y1 else x1 + (y - y1) * lower
                start = _first_at(columns, min(one, other), per_column)
                end = _first_at(columns, max(one, other), per_column)
                if start < end:
                    if count == len(spans):
                        longer = np.empty((2 * count, 4), np.int32)
                        longer[:count] = spans
                        spans = longer
                    spans[count, 0], spans[count, 1] = row, start
                    spans[count, 2], spans[count, 3] = end, triangle
                    count += 1
                    covered[row - first] += end - start
                row += 1
    whole = not folds
    for total in covered:
        whole &= total == len(columns)
    return spans[:count] if whole else _without_gaps(spans[:count], first, last, len(columns))


@compiled
def _without_gaps(spans: Spans, first: int, last: int, width: int) -> Spans:
    """Add spans for pixels that no triangle holds by rounding; they take a neighbour's triangle."""
    owner = np.full((last - first, width), -1, np.int32)
    for n in range(len(spans)):
        owner[spans[n, 0] - first, spans[n, 1] : spans[n, 2]] = spans[n, 3]
    gaps = np.empty(((owner < 0).sum(), 4), np.int32)
    count = 0
    triangle = spans[0, 3] if len(spans) else 0
    for row in range(last - first):
        for column in range(width):
            if owner[row, column] >= 0:
                triangle = owner[row, column]
            else:
                gaps[count, 0], gaps[count, 1] = row + first, column
                gaps[count, 2], gaps[count, 3] = column + 1, triangle
                count += 1
    return np.concatenate((spans, gaps))


@compiled
def _inverse_map(points: Floats, p: int, q: int, r: int) -> tuple[float, float, float, float]:
    """The inverse Jacobian of a triangle, by rows; 0 where it has no area."""
    ux, uy = points[q, 0] - points[p, 0], points[q, 1] - points[p, 1]
    vx, vy = points[r, 0] - points[p, 0], points[r, 1] - points[p, 1]
    area = ux * vy - uy * vx
    if area == 0:
        return 0.0, 0.0, 0.0, 0.0
    return vy / area, -vx / area, -uy / area, ux / area


@compiled
def _place(inverse: tuple[float, float, float, float], dx: float, dy: float) -> tuple[float, float]:
    """Barycentric weights of a triangle's second and third corner, from its first one."""
    second = min(max(inverse[0] * dx + inverse[1] * dy, 0.0), 1.0)
    return second, min(max(inverse[2] * dx + inverse[3] * dy, 0.0), 1.0 - second)


@compiled
def rasterize_barycentric(
    spans: Spans,
    vertices: Floats,
    rows: Floats,
    columns: Floats,
    triangles: npt.NDArray[np.int64],
    weights: Floats,
) -> None:
    """Write the triangle of every pixel of the spans, and its barycentric coordinates.

    Args:
        spans: of a band.
        vertices: (h, w, 2), the samples' normalised points.
        rows: (n,) y of the pixels.
        columns: (m,) x of the pixels.
        triangles: (n, m), written to.
        weights: (n, m, 2), barycentric weights of the second and third corner, written to.
    """
    points = vertices.reshape(-1, 2)
    for n in range(len(spans)):
        row, triangle = spans[n, 0], spans[n, 3]
        p, q, r = corners_of(triangle, vertices.shape[1])
        inverse = _inverse_map(points, p, q, r)
        dy = rows[row] - points[p, 1]
        for column in range(spans[n, 1], spans[n, 2]):
            triangles[row, column] = triangle
            weights[row, column] = _place(inverse, columns[column] - points[p, 0], dy)


@compiled
def rasterize_values(
    spans: Spans,
    vertices: Floats,
    table: npt.NDArray[np.float32],
    rows: Floats,
    columns: Floats,
    values: npt.NDArray[np.float32],
) -> None:
    """Write the linear interpolation of every pixel of the spans.

    Args:
        spans: of a band.
        vertices: (h, w, 2), the samples' normalised points.
        table: (h * w, c), values at the samples.
        rows: (n,) y of the pixels.
        columns: (m,) x of the pixels.
        values: (c, n, m), written to.
    """
    points = vertices.reshape(-1, 2)
    weights_of_row = np.empty((2, len(columns)), np.float32)
    for n in range(len(spans)):
        row, start, end = spans[n, 0], spans[n, 1], spans[n, 2]
        p, q, r = corners_of(spans[n, 3], vertices.shape[1])
        inverse = _inverse_map(points, p, q, r)
        dy = rows[row] - points[p, 1]
        for column in range(start, end):
            second, third = _place(inverse, columns[column] - points[p, 0], dy)
            weights_of_row[0, column], weights_of_row[1, column] = second, third
        for channel in range(len(values)):
            base = table[p, channel]
            right, down = table[q, channel] - base, table[r, channel] - base
            line = values[channel, row]
            for column in range(start, end):
                line[column] = (
                    base + right * weights_of_row[0, column] + down * weights_of_row[1, column]
                )


@compiled
def rasterize_labels(
    spans: Spans,
    vertices: Floats,
    table: npt.NDArray[np.float32],
    winners: npt.NDArray[np.uint8],
    rows: Floats,
    columns: Floats,
    labels: npt.NDArray[np.uint8],
) -> None:
    """Write the winning class of every pixel of the spans.

    Where a triangle's corners agree, all of it has their class; elsewhere, only classes that no
    corner's winner beats at all three corners can win.

    Args:
        spans: of a band.
        vertices: (h, w, 2), the samples' normalised points.
        table: (h * w, k), scores at the samples.
        winners: (h * w,), the class that wins at each sample.
        rows: (n,) y of the pixels.
        columns: (m,) x of the pixels.
        labels: (n, m), written to.
    """
    points = vertices.reshape(-1, 2)
    candidates = np.empty(table.shape[1], np.int64)
    count = 0
    before = -1
    for n in range(len(spans)):
        row, start, end, triangle = spans[n, 0], spans[n, 1], spans[n, 2], spans[n, 3]
        p, q, r = corners_of(triangle, vertices.shape[1])
        if winners[p] == winners[q] == winners[r]:
            labels[row, start:end] = winners[p]
            continue
        if triangle != before:
            count = _candidates(table, winners, p, q, r, candidates)
            before = triangle
        inverse = _inverse_map(points, p, q, r)
        dy = rows[row] - points[p, 1]
        for column in range(start, end):
            second, third = _place(inverse, columns[column] - points[p, 0], dy)
            first = 1.0 - second - third
            best, winner = -np.inf, candidates[0]
            for c in range(count):
                k = candidates[c]
                score = first * table[p, k] + second * table[q, k] + third * table[r, k]
                if score > best:
                    best, winner = score, k
            labels[row, column] = winner


@compiled
def _candidates(
    table: npt.NDArray[np.float32],
    winners: npt.NDArray[np.uint8],
    p: int,
    q: int,
    r: int,
    candidates: npt.NDArray[np.int64],
) -> int:
    """Write the classes that can win in a triangle, in ascending order, and return their number."""
    count = 0
    for k in range(table.shape[1]):
        beaten = False
        for corner in (p, q, r):
            c = winners[corner]
            beaten |= (
                c != k
                and table[p, c] >= table[p, k]
                and table[q, c] >= table[q, k]
                and table[r, c] >= table[r, k]
                and (table[corner, c] > table[corner, k] or c < k)
            )
        if not beaten:
            candidates[count] = k
            count += 1
    return count


@compiled
def rasterize_coordinates(
    spans: Spans,
    vertices: Floats,
    rows: Floats,
    columns: Floats,
    triangles: npt.NDArray[np.int32],
    coordinates: npt.NDArray[Any],
) -> None:
    """Write the point of the small image that every pixel of the spans sees.

    Args:
        spans: of a band.
        vertices: (h, w, 2), the samples' normalised points.
        rows: (n,) y of the pixels.
        columns: (m,) x of the pixels.
        triangles: (n, m), written to.
        coordinates: (n, m, 2), normalised, written to.
    """
    points = vertices.reshape(-1, 2)
    height, width = vertices.shape[:2]
    for n in range(len(spans)):
        row, triangle = spans[n, 0], spans[n, 3]
        p, q, r = corners_of(triangle, width)
        inverse = _inverse_map(points, p, q, r)
        dy = rows[row] - points[p, 1]
        for column in range(spans[n, 1], spans[n, 2]):
            second, third = _place(inverse, columns[column] - points[p, 0], dy)
            triangles[row, column] = triangle
            # The second corner is the first one's neighbour in its row, the third in its column.
            x, y = p % width + (q - p) * second, p // width + (r - p) // width * third
            coordinates[row, column, 0] = x * (2 / (width - 1)) - 1
            coordinates[row, column, 1] = y * (2 / (height - 1)) - 1


@compiled
def coordinates_backward(
    vertices: Floats,
    rows: Floats,
    columns: Floats,
    triangles: npt.NDArray[np.int32],
    gradient: npt.NDArray[Any],
    gradients: Floats,
) -> None:
    """Add up the gradient that pixels' points of the small image give to the mesh's vertices.

    Such a point is u^-1(y); moving the mesh by du moves it by -J^-1 du.

    Args:
        vertices: (h, w, 2), the samples' normalised points.
        rows: (n,) y of the pixels.
        columns: (m,) x of the pixels.
        triangles: (n, m), as :func:`rasterize_coordinates` writes them.
        gradient: (n, m, 2), to the coordinates.
        gradients: (h, w, 2), added to.
    """
    points, totals = vertices.reshape(-1, 2), gradients.reshape(-1, 2)
    height, width = vertices.shape[:2]
    for i in range(len(rows)):
        for j in range(len(columns)):
            p, q, r = corners_of(triangles[i, j], width)
            inverse = _inverse_map(points, p, q, r)
            second, third = _place(inverse, columns[j] - points[p, 0], rows[i] - points[p, 1])
            right = (q - p) * gradient[i, j, 0] * (2 / (width - 1))
            down = (r - p) // width * gradient[i, j, 1] * (2 / (height - 1))
            x = -(inverse[0] * right + inverse[2] * down)
            y = -(inverse[1] * right + inverse[3] * down)
            for corner, share in ((p, 1.0 - second - third), (q, second), (r, third)):
                totals[corner, 0] += share * x
                totals[corner, 1] += share * y
