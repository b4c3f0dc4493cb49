"""Where to look closer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from deformsample.conventions import IGNORE_INDEX
from deformsample.errors import ArgumentError


@dataclass(frozen=True)
class Place:
    """A square part of an image, in pixels."""

    top: int
    left: int
    side: int

    @property
    def rows(self) -> slice:
        """Its rows in the image."""
        return slice(self.top, self.top + self.side)

    @property
    def columns(self) -> slice:
        """Its columns in the image."""
        return slice(self.left, self.left + self.side)


def differing_places(
    first: Tensor, second: Tensor, truth: Tensor, side: int, count: int
) -> list[Place]:
    """The parts of an image where a first prediction gains, or loses, most against a second.

    They are chosen by the size of the difference, whichever is better, and do not overlap.

    Args:
        first: (H, W) class ids.
        second: (H, W) class ids.
        truth: (H, W) class ids; ignored pixels do not count.
        side: of each part, in pixels.
        count: how many at most; fewer where the predictions do not differ.

    Returns:
        From the largest difference to the smallest.
    """
    height, width = truth.shape
    if not 1 <= side <= min(height, width):
        raise ArgumentError(
            f"Expected `side` from 1 to the image's shorter side, {min(height, width)}, but got "
            f"{side}."
        )
    known = truth != IGNORE_INDEX
    gain = ((first == truth) & known).float() - ((second == truth) & known).float()
    stride = max(1, side // 8)
    sums = F.avg_pool2d(gain[None, None], side, stride)[0, 0].abs()
    places: list[Place] = []
    reach = -(-side // stride)  # windows closer than this overlap
    while len(places) < count and float(sums.max()) > 0:
        row, column = divmod(int(sums.argmax()), sums.shape[1])
        places.append(Place(row * stride, column * stride, side))
        rows = slice(max(0, row - reach + 1), row + reach)
        sums[rows, max(0, column - reach + 1) : column + reach] = -torch.inf
    return places
