"""Work on every pixel of large images on a CPU, compiled: halving, sampling, label boundaries."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from deformsample.geometry.compiled import compiled

Image = npt.NDArray[Any]


@compiled
def halve_rows(image: Image, halved: npt.NDArray[np.float32], first: int, last: int) -> None:
    """Halve an image by averaging 2 x 2 pixels; a last row or column without a partner stays.

    Args:
        image: (c, H, W).
        halved: (c, h, w), written to in the rows first <= i < last.
        first: row of the result.
        last: row of the result.
    """
    channels, h, w = image.shape
    pairs = w // 2
    for c in range(channels):
        for i in range(first, last):
            upper, lower = image[c, 2 * i], image[c, min(2 * i + 1, h - 1)]
            for j in range(pairs):
                left = np.float32(upper[2 * j]) + np.float32(lower[2 * j])
                right = np.float32(upper[2 * j + 1]) + np.float32(lower[2 * j + 1])
                halved[c, i, j] = (left + right) * np.float32(0.25)
            if w % 2:
                last_pair = np.float32(upper[w - 1]) + np.float32(lower[w - 1])
                halved[c, i, pairs] = last_pair * np.float32(0.5)


@compiled
def add_samples(
    image: Image,
    x: npt.NDArray[np.float32],
    y: npt.NDArray[np.float32],
    shares: npt.NDArray[np.float32],
    sums: npt.NDArray[np.float32],
    first: int,
    last: int,
) -> None:
    """Add bilinear values of an image, each times its share; where that is 0, nothing is read.

    Args:
        image: (c, H, W).
        x: (h, w) columns, counted from the first one's centre; outside, the border pixel counts.
        y: (h, w) rows, likewise.
        shares: (h, w).
        sums: (c, h, w), added to in the rows first <= i < last.
        first: row of the samples.
        last: row of the samples.
    """
    channels, height, width = image.shape
    for i in range(first, last):
        for j in range(x.shape[1]):
            share = shares[i, j]
            if share == 0:
                continue
            px, py = min(max(x[i, j], 0), width - 1), min(max(y[i, j], 0), height - 1)
            left, top = int(px), int(py)
            right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
            a, b = np.float32(px - left), np.float32(py - top)
            for c in range(channels):
                upper = image[c, top, left] * (1 - a) + image[c, top, right] * a
                lower = image[c, bottom, left] * (1 - a) + image[c, bottom, right] * a
                sums[c, i, j] += share * (upper * (1 - b) + lower * b)


@compiled
def mark_boundaries(
    labels: npt.NDArray[np.uint8],
    ignored: int,
    marks: npt.NDArray[np.uint8],
    first: int,
    last: int,
) -> None:
    """Write 1 where a pixel's label differs from a neighbour's, 0 elsewhere.

    Args:
        labels: (h, w).
        ignored: pixels with this label have no boundary with any other.
        marks: (h, w), written to.
        first: row.
        last: row.
    """
    h, w = labels.shape
    for i in range(first, last):
        above, below = labels[max(i - 1, 0)], labels[min(i + 1, h - 1)]
        row = labels[i]
        for j in range(w):
            own = row[j]
            differs = False
            for other in (above[j], below[j], row[max(j - 1, 0)], row[min(j + 1, w - 1)]):
                differs |= (other != own) & (other != ignored)
            marks[i, j] = differs & (own != ignored)
