"""Where tiles lie, how they are cut, and how much each counts where they overlap."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.autograd.profiler import record_function

from deformsample.conventions import Size

Blending: TypeAlias = Literal["uniform", "gaussian"]

_SPREAD = 1 / 8  # of a Gaussian, in sides of a tile: that of Isensee et al. 2021 (nnU-Net)


def tile_offsets(length: int, tile: int, overlap: float) -> list[int]:
    """First pixels of the fewest tiles that cover a side, evenly spread from border to border.

    Args:
        length: pixels of the side, at least ``tile``.
        tile: pixels of a tile.
        overlap: share of a tile that the next one sees again, at least; in [0, 1).
    """
    step = max(1, math.floor(tile * (1 - overlap)))
    steps = math.ceil((length - tile) / step)
    return [0] if not steps else [round(i * (length - tile) / steps) for i in range(steps + 1)]


def random_tiles(image: Tensor, tile: Size) -> tuple[Tensor, Tensor]:
    """Cut one tile at random from each image.

    Args:
        image: (b, c, H, W).
        tile: (h, w).

    Returns:
        The tiles (b, c, h, w), and the first row and column of each, (b, 2).
    """
    h, w = tile
    image = extended(image, tile)
    most = torch.tensor([image.shape[2] - h + 1, image.shape[3] - w + 1])
    # On the CPU, whose generator every process seeds.
    corners = (torch.rand(len(image), 2, dtype=torch.float64) * most).long()
    tiles = [
        one[:, top : top + h, left : left + w]
        for one, (top, left) in zip(image, corners.tolist(), strict=True)
    ]
    return torch.stack(tiles), corners


def extended(image: Tensor, least: Size) -> Tensor:
    """An image (b, c, h, w), with its last row and column repeated up to a size."""
    down, right = (max(0, n - side) for n, side in zip(least, image.shape[2:], strict=True))
    if not down and not right:
        return image
    rows, columns = (
        torch.arange(side + more, device=image.device).clamp_max(side - 1)
        for side, more in zip(image.shape[2:], (down, right), strict=True)
    )
    return image[:, :, rows][..., columns]


def tile_weights(offsets: Sequence[int], tile: int, kind: Blending) -> Tensor:
    """How much each tile counts at each of its pixels along a side.

    Args:
        offsets: first pixels of the tiles; the last one ends the side.
        tile: pixels of a tile.
        kind: ``uniform``, which gives the mean, or ``gaussian``: less towards a tile's border.

    Returns:
        (tiles, tile) float64; those that share a pixel sum to 1 there.
    """
    place = torch.arange(tile, dtype=torch.float64) - (tile - 1) / 2
    own = torch.exp(-((place / (_SPREAD * tile)) ** 2) / 2)
    own = own if kind == "gaussian" else torch.ones_like(place)
    total = torch.zeros(offsets[-1] + tile, dtype=torch.float64)
    for offset in offsets:
        total[offset : offset + tile] += own
    return torch.stack([own / total[offset : offset + tile] for offset in offsets])


def blend_rows(
    tile_at: Callable[[int, int], Tensor],
    tops: Sequence[int],
    lefts: Sequence[int],
    weights: tuple[Tensor, Tensor],
) -> Iterator[Tensor]:
    """Weighted sums of overlapping tiles, from top to bottom, as soon as they are complete.

    No more than two rows of tiles are held at a time, however long the image is.

    Args:
        tile_at: from the numbers of a row and a column to a tile (b, k, h, w).
        tops: first pixels of the rows of tiles.
        lefts: first pixels of the columns of tiles.
        weights: of :func:`tile_weights`, from top to bottom (rows, h) and from left to right
            (columns, w).

    Yields:
        (b, k, n, W), for one row of tiles each: down to where the next one begins.
    """
    h, w = weights[0].shape[1], weights[1].shape[1]
    begun: Tensor | None = None
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
            if begun is not None:
                row[:, :, : begun.shape[2]] += begun
            complete = (tops[i + 1] if i + 1 < len(tops) else top + h) - top
            begun = row[:, :, complete:].clone()  # so that the whole row is not kept
        yield row[:, :, :complete]
