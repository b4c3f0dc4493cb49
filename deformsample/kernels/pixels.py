"""Compiled pixel loops for the CPU: halving, sampling, label boundaries."""

from __future__ import annotations

from functools import partial
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from deformsample.kernels.compiled import compiled, in_bands

Image = npt.NDArray[Any]
Labels = npt.NDArray[np.uint8]


def channels_first(pixels: Image) -> Image:
    """(h, w, c) to (c, h, w), contiguous."""
    if pixels.dtype not in (np.uint8, np.float32):
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))
    planes = np.empty((pixels.shape[2], *pixels.shape[:2]), pixels.dtype)
    cv2.split(np.ascontiguousarray(pixels), list(planes))  # four times as fast as NumPy's copy
    return planes


def halve(image: Image, threads: int) -> npt.NDArray[np.float32]:
    """Halve an image by averaging 2 x 2 pixels; an odd last row or column is kept.

    Args:
        image: (c, H, W), uint8 or float32.
        threads: number of threads.

    Returns:
        (c, h, w), sides rounded up.
    """
    channels, height, width = image.shape
    halved = np.empty((channels, -(-height // 2), -(-width // 2)), np.float32)
    if image.dtype == np.uint8:
        in_bands(halved.shape[1], halved.size, partial(_halve_rows, image, halved), threads)
        return halved
    for pixels, result in zip(image, halved, strict=True):
        even = pixels
        if height % 2 or width % 2:  # the mean of a repeated row is that row
            even = cv2.copyMakeBorder(pixels, 0, height % 2, 0, width % 2, cv2.BORDER_REPLICATE)
        cv2.resize(even, result.shape[::-1], dst=result, interpolation=cv2.INTER_AREA)
    return halved


@compiled
def _halve_rows(
    image: npt.NDArray[np.uint8], halved: npt.NDArray[np.float32], first: int, last: int
) -> None:
    """Rows of :func:`halve`, of an image of bytes, which OpenCV would round.

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
    index: int,
    centres: npt.NDArray[np.float32],
    levels: npt.NDArray[np.float32],
    sums: npt.NDArray[np.float32],
    first: int,
    last: int,
) -> None:
    """Add the contribution of one level of an image pyramid to samples between two levels.

    Args:
        image: the level (c, H, W).
        index: index of the level; its pixels are 2^index wide.
        centres: (h, w, 2), points (x, y) in pixels of level 0 from the outer edge of the image;
            points outside take the border pixel.
        levels: (h, w), the fractional level of each sample; levels at a distance of 1 or more
            contribute nothing.
        sums: (c, h, w), added to in the rows first <= i < last.
        first: row of the samples.
        last: row of the samples.
    """
    channels, height, width = image.shape
    one, scale = np.float32(1), np.float32(0.5**index)
    right_most, lowest = np.float32(width - 1), np.float32(height - 1)
    for i in range(first, last):
        for j in range(levels.shape[1]):
            share = one - abs(levels[i, j] - np.float32(index))
            if share <= 0:
                continue
            x = min(max(centres[i, j, 0] * scale - np.float32(0.5), np.float32(0)), right_most)
            y = min(max(centres[i, j, 1] * scale - np.float32(0.5), np.float32(0)), lowest)
            left, top = int(x), int(y)
            right, bottom = min(left + 1, width - 1), min(top + 1, height - 1)
            a, b = x - np.float32(left), y - np.float32(top)
            for c in range(channels):
                upper = np.float32(image[c, top, left]) * (one - a)
                upper += np.float32(image[c, top, right]) * a
                lower = np.float32(image[c, bottom, left]) * (one - a)
                lower += np.float32(image[c, bottom, right]) * a
                sums[c, i, j] += share * (upper * (one - b) + lower * b)


@compiled
def mark_boundaries(
    labels: Labels,
    ignored: int,
    marks: Labels,
    first: int,
    last: int,
) -> None:
    """Write 1 where the label of a pixel differs from a neighbour's, 0 elsewhere.

    Args:
        labels: (h, w).
        ignored: pixels with this label have no boundary with any other.
        marks: (h, w), written to.
        first: row.
        last: row.
    """
    h, w = labels.shape
    for i in range(first, last):
        row, above, below = labels[i], labels[max(i - 1, 0)], labels[min(i + 1, h - 1)]
        inner = row[1:-1], above[1:-1], below[1:-1], row[:-2], row[2:]
        _mark_line(*inner, ignored, marks[i, 1:-1])
        for j, left, right in ((0, 0, min(1, w - 1)), (w - 1, max(w - 2, 0), w - 1)):
            end = row[j : j + 1], above[j : j + 1], below[j : j + 1]
            sides = row[left : left + 1], row[right : right + 1]
            _mark_line(*end, *sides, ignored, marks[i, j : j + 1])


@compiled
def _mark_line(
    row: Labels,
    above: Labels,
    below: Labels,
    left: Labels,
    right: Labels,
    ignored: int,
    marks: Labels,
) -> None:
    """Write 1 where a pixel differs from a neighbour; (w,) each.

    Neighbours have the same index, without which this loop would not be vectorised.
    """
    unknown = np.uint8(ignored)
    for j in range(len(row)):
        label = row[j]
        differs = (above[j] != label) & (above[j] != unknown)
        differs |= (below[j] != label) & (below[j] != unknown)
        differs |= (left[j] != label) & (left[j] != unknown)
        differs |= (right[j] != label) & (right[j] != unknown)
        marks[j] = differs & (label != unknown)
