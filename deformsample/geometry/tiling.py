"""Offsets of tiles, cutting them, and their blending where they overlap."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.autograd.profiler import record_function

from deformsample.conventions import Size

Blending: TypeAlias = Literal["constant", "gaussian"]

_SPREAD = 1 / 8  # standard deviation in tile sides, as in nnU-Net (Isensee et al. 2021)


def tile_offsets(length: int, tile: int, overlap: float) -> list[int]:
    """First pixels of the fewest evenly spaced tiles that cover a side from border to border.

    Args:
        length: length of the side in pixels, at least ``tile``.
        tile: length of a tile in pixels.
        overlap: smallest overlap of neighbouring tiles, as a fraction of a tile, in [0, 1).

    Example:
        >>> tile_offsets(1000, tile=256, overlap=0.25)
        [0, 186, 372, 558, 744]
    """
    step = max(1, math.floor(tile * (1 - overlap)))
    steps = math.ceil((length - tile) / step)
    return [0] if not steps else [round(i * (length - tile) / steps) for i in range(steps + 1)]


def random_tiles(image: Tensor, tile: Size) -> tuple[Tensor, Tensor]:
    """Cut one random tile from each image, padded where it is smaller than a tile.

    Args:
        image: (b, c, H, W).
        tile: (h, w).

    Returns:
        The tiles (b, c, h, w), and the first row and column of each, (b, 2).
    """
    h, w = tile
    image = pad_to(image, tile)
    positions = torch.tensor([image.shape[2] - h + 1, image.shape[3] - w + 1])
    # Drawn on the CPU, whose generator is seeded in every process.
    corners = (torch.rand(len(image), 2, dtype=torch.float64) * positions).long()
    tiles = [
        single[:, top : top + h, left : left + w]
        for single, (top, left) in zip(image, corners.tolist(), strict=True)
    ]
    return torch.stack(tiles), corners


def pad_to(image: Tensor, size: Size) -> Tensor:
    """Pad an image (b, c, h, w) to a minimum size by repeating its last row and column."""
    down, right = (max(0, n - side) for n, side in zip(size, image.shape[2:], strict=True))
    if not down and not right:
        return image
    rows, columns = (
        torch.arange(side + more, device=image.device).clamp_max(side - 1)
        for side, more in zip(image.shape[2:], (down, right), strict=True)
    )
    return image[:, :, rows][..., columns]


def tile_weights(offsets: Sequence[int], tile: int, kind: Blending) -> Tensor:
    """The blending weights of each tile along a side.

    Args:
        offsets: first pixels of the tiles; the last tile ends the side.
        tile: length of a tile in pixels.
        kind: ``constant`` (the mean), or ``gaussian``: lower weights towards the border of a tile.

    Returns:
        (tiles, tile) float64; at each pixel, the weights of all tiles sum to 1.
    """
    position = torch.arange(tile, dtype=torch.float64) - (tile - 1) / 2
    window = torch.ones_like(position)
    if kind == "gaussian":
        window = torch.exp(-((position / (_SPREAD * tile)) ** 2) / 2)
    total = torch.zeros(offsets[-1] + tile, dtype=torch.float64)
    for offset in offsets:
        total[offset : offset + tile] += window
    return torch.stack([window / total[offset : offset + tile] for offset in offsets])


def blend_rows(
    tile_at: Callable[[int, int], Tensor],
    tops: Sequence[int],
    lefts: Sequence[int],
    weights: tuple[Tensor, Tensor],
) -> Iterator[Tensor]:
    """Weighted sums of overlapping tiles, from top to bottom.

    At most two rows of tiles are in memory.

    Args:
        tile_at: from the index of a row and of a column to a tile (b, k, h, w).
        tops: first pixels of the rows of tiles.
        lefts: first pixels of the columns of tiles.
        weights: from :func:`tile_weights`: vertical (rows, h) and horizontal (columns, w).

    Yields:
        (b, k, n, W) for each row of tiles, up to the top of the next row.
    """
    h, w = weights[0].shape[1], weights[1].shape[1]
    overlap: Tensor | None = None  # the part of the last row that the next row overlaps
    for i, top in enumerate(tops):
        row: Tensor | None = None
        for j, left in enumerate(lefts):
            tile = tile_at(i, j)
            with record_function("unwarp"):
                if row is None:
                    row = tile.new_zeros(*tile.shape[:2], h, lefts[-1] + w)
                row[..., left : left + w] += tile * weights[1][j].to(tile)
        assert row is not None
        with record_function("unwarp"):
            row *= weights[0][i].to(row)[:, None]
            if overlap is not None:
                row[:, :, : overlap.shape[2]] += overlap
            complete = (tops[i + 1] if i + 1 < len(tops) else top + h) - top
            overlap = row[:, :, complete:].clone()  # a view would keep the whole row in memory
        yield row[:, :, :complete]
