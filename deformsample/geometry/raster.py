"""Scanning a mesh on a CPU, compiled.

The rows of the output are cut into bands, which threads work on side by side. Within a band,
triangles come in their order, so that the result does not depend on the number of threads even
where a mesh folds. A row cuts a triangle in an interval from its long edge to one of its short
ones, closed at the start and open at the end; an edge's crossing is worked out from the same two
points for both of its triangles, so that intervals leave neither gaps nor overlaps.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from numba import njit

Floats = npt.NDArray[np.float64]
_Function = TypeVar("_Function", bound=Callable[..., object])

NOBODY = 255
"""No class has this number, so that a pixel without a triangle can be told."""

_BANDS_PER_THREAD = 4


def in_bands(rows: int, work: Callable[[int, int], object]) -> None:
    """Call ``work(first, last)`` for bands of rows, in as many threads as torch uses."""
    threads = torch.get_num_threads()
    edges = np.linspace(0, rows, min(rows, threads * _BANDS_PER_THREAD) + 1).round().astype(int)
    bands = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    if threads == 1:
        for first, last in bands:
            work(first, last)
        return
    with ThreadPoolExecutor(threads) as pool:
        for future in [pool.submit(work, *band) for band in bands]:
            future.result()


def _compiled(function: _Function) -> _Function:
    compiled: Any = njit(nogil=True, cache=True)(function)
    return cast("_Function", compiled)


@_compiled
def _crossing(by_height: Floats, t: int, upper: int, lower: int, y: float) -> float:
    """Where the edge of two of a triangle's corners crosses row y."""
    y0: float = by_height[t, upper, 1]
    x0: float = by_height[t, upper, 0]
    x1: float = by_height[t, lower, 0]
    y1: float = by_height[t, lower, 1]
    return x0 + (y - y0) / (y1 - y0) * (x1 - x0)


@_compiled
def _interval(by_height: Floats, t: int, y: float) -> tuple[float, float]:
    long = _crossing(by_height, t, 0, 2, y)
    if y < by_height[t, 1, 1]:
        short = _crossing(by_height, t, 0, 1, y)
    else:
        short = _crossing(by_height, t, 1, 2, y)
    return min(long, short), max(long, short)


@_compiled
def _place(inverse: Floats, t: int, x: float, y: float) -> tuple[float, float]:
    """Barycentric weights of a triangle's second and third corner at a point."""
    dx, dy = x - inverse[t, 0], y - inverse[t, 1]
    second = min(max(inverse[t, 2] * dx + inverse[t, 3] * dy, 0.0), 1.0)
    return second, min(max(inverse[t, 4] * dx + inverse[t, 5] * dy, 0.0), 1.0 - second)


@_compiled
def triangles_of_band(
    by_height: Floats,
    inverse: Floats,
    rows: Floats,
    columns: Floats,
    found: npt.NDArray[np.int64],
    weights: Floats,
    first: int,
    last: int,
) -> None:
    """Write the triangle of every lattice point of the rows first <= i < last, and the place in it.

    Args:
        by_height: (t, 3, 2), the corners' points of each triangle from top to bottom.
        inverse: (t, 6), a triangle's first corner and the two rows of its inverse Jacobian.
        rows: (n,) y of the points, ascending.
        columns: (m,) x of the points, ascending.
        found: (n, m) number of the triangle, written to.
        weights: (n, m, 2) barycentric weights of its second and third corner, written to.
        first: row.
        last: row.
    """
    found[first:last] = -1
    for t in range(len(by_height)):
        bottom = by_height[t, 2, 1]
        if bottom <= rows[first] or by_height[t, 0, 1] > rows[last - 1]:
            continue
        i = max(first, int(np.searchsorted(rows, by_height[t, 0, 1])))
        while i < last and rows[i] < bottom:
            start, end = _interval(by_height, t, rows[i])
            j = int(np.searchsorted(columns, start))
            while j < len(columns) and columns[j] < end:
                found[i, j] = t
                j += 1
            i += 1
    for i in range(first, last):
        for j in range(len(columns)):
            if found[i, j] < 0:  # rounding of a degenerate mesh; a neighbour is as good
                found[i, j] = found[i, j - 1] if j else max(found[i - 1, 0], 0) if i > first else 0
            weights[i, j] = _place(inverse, found[i, j], columns[j], rows[i])


@_compiled
def labels_of_band(
    by_height: Floats,
    inverse: Floats,
    corners: npt.NDArray[np.int64],
    agreed: npt.NDArray[np.uint8],
    scores: npt.NDArray[np.float32],
    rows: Floats,
    columns: Floats,
    labels: npt.NDArray[np.uint8],
    first: int,
    last: int,
) -> None:
    """Write the winning class of every lattice point of the rows first <= i < last.

    Args:
        by_height: (t, 3, 2), the corners' points of each triangle from top to bottom.
        inverse: (t, 6), a triangle's first corner and the two rows of its inverse Jacobian.
        corners: (t, 3), numbers of the samples.
        agreed: (t,), the class that wins at all corners, or ``NOBODY``.
        scores: (samples, k).
        rows: (n,) y of the points, ascending.
        columns: (m,) x of the points, ascending.
        labels: (n, m), written to.
        first: row.
        last: row.
    """
    labels[first:last] = NOBODY
    for t in range(len(by_height)):
        bottom = by_height[t, 2, 1]
        if bottom <= rows[first] or by_height[t, 0, 1] > rows[last - 1]:
            continue
        i = max(first, int(np.searchsorted(rows, by_height[t, 0, 1])))
        while i < last and rows[i] < bottom:
            start, end = _interval(by_height, t, rows[i])
            j = int(np.searchsorted(columns, start))
            while j < len(columns) and columns[j] < end:
                if agreed[t] != NOBODY:
                    labels[i, j] = agreed[t]
                else:
                    labels[i, j] = _winner(inverse, corners, scores, t, columns[j], rows[i])
                j += 1
            i += 1
    for i in range(first, last):
        for j in range(len(columns)):
            if labels[i, j] == NOBODY:
                labels[i, j] = labels[i, j - 1] if j else labels[i - 1, 0] if i > first else 0


@_compiled
def _winner(
    inverse: Floats,
    corners: npt.NDArray[np.int64],
    scores: npt.NDArray[np.float32],
    t: int,
    x: float,
    y: float,
) -> int:
    second, third = _place(inverse, t, x, y)
    share = 1.0 - second - third
    best, winner = -np.inf, 0
    for k in range(scores.shape[1]):
        score = (
            share * scores[corners[t, 0], k]
            + second * scores[corners[t, 1], k]
            + third * scores[corners[t, 2], k]
        )
        if score > best:
            best, winner = score, k
    return winner
