"""Compiled scan conversion of a mesh on a CPU.

The rows of the output are divided into bands, one per thread. A row cuts a triangle in a half-open
span of pixels, from its long edge to a short one. The crossing of an edge is computed from the same
two points for both of its triangles, so that the spans of all triangles tile the row. Spans are in
the order of the triangles: where a mesh folds, the last triangle wins, for any number of threads.

Functions rasterize the spans of a band with classes, values or barycentric coordinates. The
triangles are those of :mod:`deformsample.geometry.mesh`.
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
    """Divide the meshes of a batch into spans and rasterize them.

    Args:
        vertices: (b, h, w, 2), contiguous.
        rows: (n,) y of the pixels, ascending.
        columns: (m,) x of the pixels, ascending.
        rasterize: called with the index of an image, its vertices (h, w, 2) and the spans of a
            band, from several threads with disjoint rows.
        threads: number of parallel bands.
    """

    def work(image: int, mesh: Floats, first: int, last: int) -> None:
        spans, whole = _spans_of_band(mesh, rows, columns, first, last)
        if not whole:
            spans = np.concatenate((spans, _gaps(spans, first, last, len(columns))))
        rasterize(image, mesh, spans)

    for image, mesh in enumerate(vertices):
        in_bands(len(rows), len(rows) * len(columns), partial(work, image, mesh), threads)


@compiled
def _first_at(axis: Floats, value: float, per_unit: float) -> int:
    """The index of the first point of an ascending axis that is not below a value."""
    count = len(axis)
    i = min(max(int(np.ceil((value - axis[0]) * per_unit)), 0), count)
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
    """The samples at the corners of a triangle, for a grid of ``width`` samples per row."""
    cell = triangle // 2
    a = cell // (width - 1) * width + cell % (width - 1)
    if triangle % 2 == 0:
        return a, a + 1, a + width
    return a + width + 1, a + width, a + 1


def _spans_of_band(
    vertices: Floats, rows: Floats, columns: Floats, first: int, last: int
) -> tuple[Spans, bool]:
    """The spans of the rows first <= i < last, and whether they cover each pixel once."""
    width, points = vertices.shape[1], vertices.reshape(-1, 2)
    room = 256 + (last - first) * width * 3
    while True:
        spans, covered = np.empty((room, 4), np.int32), np.zeros(last - first, np.int64)
        count, folds = _find_spans(points, width, rows, columns, first, last, spans, covered)
        if count <= room:
            return spans[:count], not folds and bool((covered == len(columns)).all())
        room *= 2


@compiled
def _find_spans(
    points: Floats,
    width: int,
    rows: Floats,
    columns: Floats,
    first: int,
    last: int,
    spans: Spans,
    covered: npt.NDArray[np.int64],
) -> tuple[int, bool]:
    """Write the spans of a band.

    Arrays are made by the caller, since compiling a call of NumPy takes a tenth of a second.

    Args:
        points: (h * w, 2), normalised points of the samples.
        width: w.
        rows: (n,) y of the pixels, ascending.
        columns: (m,) x of the pixels, ascending.
        first: row.
        last: row.
        spans: (room, 4), written to.
        covered: (last - first,), the number of pixels of each row that spans cover, added to.

    Returns:
        The number of spans, room + 1 if there are more, and whether a triangle is turned over.
    """
    per_row, per_column = _points_per_unit(rows), _points_per_unit(columns)
    count = 0
    folds = False
    for cell_row in range(len(points) // width - 1):
        top, bottom = np.inf, -np.inf
        for p in range(cell_row * width, (cell_row + 2) * width):
            top, bottom = min(top, points[p, 1]), max(bottom, points[p, 1])
        if top > rows[last - 1] or bottom <= rows[first]:
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
            start_row = max(first, _first_at(rows, y0, per_row))
            end_row = min(last, _first_at(rows, y2, per_row))
            if start_row >= end_row:
                continue
            middle_row = min(max(start_row, _first_at(rows, y1, per_row)), end_row)
            long = (x2 - x0) / (y2 - y0)
            for half in range(2):
                if half == 0:
                    begin, stop, x, y, short = start_row, middle_row, x0, y0, (x1 - x0) / (y1 - y0)
                else:
                    begin, stop, x, y, short = middle_row, end_row, x1, y1, (x2 - x1) / (y2 - y1)
                for row in range(begin, stop):
                    long_x = x0 + (rows[row] - y0) * long
                    short_x = x + (rows[row] - y) * short
                    start = _first_at(columns, min(long_x, short_x), per_column)
                    end = _first_at(columns, max(long_x, short_x), per_column)
                    if start >= end:
                        continue
                    if count == len(spans):
                        return count + 1, folds
                    spans[count, 0], spans[count, 1] = row, start
                    spans[count, 2], spans[count, 3] = end, triangle
                    count += 1
                    covered[row - first] += end - start
    return count, folds


@compiled
def _gaps(spans: Spans, first: int, last: int, width: int) -> Spans:
    """Spans for pixels between triangles due to rounding, with a neighbouring triangle."""
    owner = np.empty((last - first, width), np.int32)
    owner[:] = -1
    for n in range(len(spans)):
        owner[spans[n, 0] - first, spans[n, 1] : spans[n, 2]] = spans[n, 3]
    missing = 0
    for row in range(last - first):
        for column in range(width):
            missing += owner[row, column] < 0
    gaps = np.empty((missing, 4), np.int32)
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
    return gaps


@compiled
def _inverse_map(points: Floats, p: int, q: int, r: int) -> tuple[float, float, float, float]:
    """The inverse Jacobian of a triangle, row by row; 0 for a triangle without area."""
    ux, uy = points[q, 0] - points[p, 0], points[q, 1] - points[p, 1]
    vx, vy = points[r, 0] - points[p, 0], points[r, 1] - points[p, 1]
    area = ux * vy - uy * vx
    if area == 0:
        return 0.0, 0.0, 0.0, 0.0
    return vy / area, -vx / area, -uy / area, ux / area


@compiled
def _barycentric(
    inverse: tuple[float, float, float, float], dx: float, dy: float
) -> tuple[float, float]:
    """Barycentric weights of the second and third corner, at an offset from the first."""
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
        spans: spans of a band.
        vertices: (h, w, 2), normalised points of the samples.
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
            weights[row, column] = _barycentric(inverse, columns[column] - points[p, 0], dy)


@compiled
def rasterize_values(
    spans: Spans,
    vertices: Floats,
    table: npt.NDArray[np.float32],
    rows: Floats,
    columns: Floats,
    values: npt.NDArray[np.float32],
) -> None:
    """Write the interpolated value of every pixel of the spans.

    Args:
        spans: spans of a band.
        vertices: (h, w, 2), normalised points of the samples.
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
            second, third = _barycentric(inverse, columns[column] - points[p, 0], dy)
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
    """Write the class of every pixel of the spans.

    A triangle whose corners agree has their class. Otherwise, only classes that no corner's class
    beats at all three corners are candidates.

    Args:
        spans: spans of a band.
        vertices: (h, w, 2), normalised points of the samples.
        table: (h * w, k), logits at the samples.
        winners: (h * w,), the class of each sample.
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
            second, third = _barycentric(inverse, columns[column] - points[p, 0], dy)
            first = 1.0 - second - third
            best, winner = -np.inf, candidates[0]
            for c in range(count):
                k = candidates[c]
                logit = first * table[p, k] + second * table[q, k] + third * table[r, k]
                if logit > best:
                    best, winner = logit, k
            labels[row, column] = winner


@compiled
def rasterize_guided(
    spans: Spans,
    vertices: Floats,
    coefficients: npt.NDArray[np.float32],
    winners: npt.NDArray[np.uint8],
    near: npt.NDArray[np.bool_],
    image: npt.NDArray[Any],
    rows: Floats,
    columns: Floats,
    labels: npt.NDArray[np.uint8],
) -> None:
    """Write the class of every pixel of the spans, from its position and its colour.

    Args:
        spans: spans of a band.
        vertices: (h, w, 2), normalised points of the samples.
        coefficients: (h * w, k, 4), logits at the samples as affine functions of the colour:
            red, green, blue, constant.
        winners: (h * w,), the class of each sample.
        near: ((h - 1) * (w - 1),), the cells near a boundary; the samples of others agree.
        image: (3, n, m), the colours.
        rows: (n,) y of the pixels.
        columns: (m,) x of the pixels.
        labels: (n, m), written to.
    """
    points = vertices.reshape(-1, 2)
    classes = coefficients.shape[1]
    for n in range(len(spans)):
        row, start, end, triangle = spans[n, 0], spans[n, 1], spans[n, 2], spans[n, 3]
        p, q, r = corners_of(triangle, vertices.shape[1])
        if not near[triangle // 2]:
            labels[row, start:end] = winners[p]
            continue
        inverse = _inverse_map(points, p, q, r)
        dy = rows[row] - points[p, 1]
        for column in range(start, end):
            second, third = _barycentric(inverse, columns[column] - points[p, 0], dy)
            b, c = np.float32(second), np.float32(third)
            a = np.float32(1) - b - c
            red = np.float32(image[0, row, column])
            green = np.float32(image[1, row, column])
            blue = np.float32(image[2, row, column])
            best, winner = np.float32(-np.inf), 0
            for k in range(classes):
                x, y, z = coefficients[p, k], coefficients[q, k], coefficients[r, k]
                logit = (
                    (a * x[0] + b * y[0] + c * z[0]) * red
                    + (a * x[1] + b * y[1] + c * z[1]) * green
                    + (a * x[2] + b * y[2] + c * z[2]) * blue
                    + (a * x[3] + b * y[3] + c * z[3])
                )
                if logit > best:
                    best, winner = logit, k
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
    """Write the candidate classes of a triangle in ascending order, and return their number."""
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
    """Write the small-image coordinates of every pixel of the spans.

    Args:
        spans: spans of a band.
        vertices: (h, w, 2), normalised points of the samples.
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
            second, third = _barycentric(inverse, columns[column] - points[p, 0], dy)
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
    """Accumulate the vector-Jacobian product of :func:`rasterize_coordinates`.

    A coordinate is u^-1(y); moving the mesh by du moves it by -J^-1 du.

    Args:
        vertices: (h, w, 2), normalised points of the samples.
        rows: (n,) y of the pixels.
        columns: (m,) x of the pixels.
        triangles: (n, m), from :func:`rasterize_coordinates`.
        gradient: (n, m, 2), gradient with respect to the coordinates.
        gradients: (h, w, 2), gradient with respect to the vertices, added to.
    """
    points, totals = vertices.reshape(-1, 2), gradients.reshape(-1, 2)
    height, width = vertices.shape[:2]
    for i in range(len(rows)):
        for j in range(len(columns)):
            p, q, r = corners_of(triangles[i, j], width)
            inverse = _inverse_map(points, p, q, r)
            second, third = _barycentric(inverse, columns[j] - points[p, 0], rows[i] - points[p, 1])
            right = (q - p) * gradient[i, j, 0] * (2 / (width - 1))
            down = (r - p) // width * gradient[i, j, 1] * (2 / (height - 1))
            x = -(inverse[0] * right + inverse[2] * down)
            y = -(inverse[1] * right + inverse[3] * down)
            for corner, share in ((p, 1.0 - second - third), (q, second), (r, third)):
                totals[corner, 0] += share * x
                totals[corner, 1] += share * y
