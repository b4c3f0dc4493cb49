"""Regions of an image to compare in detail."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from deformsample.conventions import IGNORE_INDEX
from deformsample.errors import ArgumentError


@dataclass(frozen=True)
class Region:
    """A square region of an image, in pixels."""

    top: int
    left: int
    side: int

    @property
    def rows(self) -> slice:
        """The rows of the region."""
        return slice(self.top, self.top + self.side)

    @property
    def columns(self) -> slice:
        """The columns of the region."""
        return slice(self.left, self.left + self.side)


def differing_regions(
    first: Tensor, second: Tensor, ground_truth: Tensor, side: int, count: int
) -> list[Region]:
    """The regions where the number of correct pixels of two predictions differs most.

    The regions do not overlap.

    Args:
        first: (H, W) class ids.
        second: (H, W) class ids.
        ground_truth: (H, W) class ids; ignored pixels do not count.
        side: side of a region in pixels.
        count: maximum number of regions.

    Returns:
        Regions in descending order of the difference; only those with a difference.
    """
    height, width = ground_truth.shape
    if not 1 <= side <= min(height, width):
        raise ArgumentError(
            f"Expected `side` from 1 to the image's shorter side, {min(height, width)}, but got "
            f"{side}."
        )
    known = ground_truth != IGNORE_INDEX
    gain = ((first == ground_truth) & known).float() - ((second == ground_truth) & known).float()
    stride = max(1, side // 8)
    sums = F.avg_pool2d(gain[None, None], side, stride)[0, 0].abs()
    regions: list[Region] = []
    reach = -(-side // stride)  # windows closer than this overlap
    while len(regions) < count and float(sums.max()) > 0:
        row, column = divmod(int(sums.argmax()), sums.shape[1])
        regions.append(Region(row * stride, column * stride, side))
        rows = slice(max(0, row - reach + 1), row + reach)
        sums[rows, max(0, column - reach + 1) : column + reach] = -torch.inf
    return regions
