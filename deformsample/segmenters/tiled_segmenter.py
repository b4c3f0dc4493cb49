"""Segmentation at full resolution, tile by tile (Reina and Panchumarthy 2018)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import torch
from torch import Tensor, nn
from torch.autograd.profiler import record_function
from torch.nn import functional as F

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.geometry import identity_grid, warp
from deformsample.geometry.tiling import (
    Blending,
    blend_rows,
    extended,
    random_tiles,
    tile_offsets,
    tile_weights,
)
from deformsample.samplers.image_source import ImageSource, InMemoryImage
from deformsample.segmenters.prediction import TilePrediction
from deformsample.segmenters.segmenter import Segmenter


class TiledSegmenter(Segmenter):
    """Segment overlapping tiles at full resolution, and take the mean of their probabilities.

    In training, one tile is cut from each image at random. Else tiles lie at even distances from
    border to border; labels are written row by row of tiles, so that no more than two rows are in
    memory. An image that is smaller than a tile is continued by its last row and column.

    Args:
        network: normalised image (b, 3, h, w) to logits (b, k, h', w'), corner to corner.
        tile: (height, width) of a tile in pixels of the full image.
        overlap: share of a tile that the next one sees again, at least; in [0, 1).
        blending: of the tiles: ``uniform``, the mean, or ``gaussian``, less towards their borders.
        shrink: show the network means of so many pixels per side; its logits are interpolated.
        network_multiple: pad what the network sees to a multiple of this, repeating the last row
            and column.
    """

    def __init__(
        self,
        network: nn.Module,
        tile: tuple[int, int] = (256, 256),
        overlap: float = 0.5,
        blending: Blending = "uniform",
        shrink: int = 1,
        network_multiple: int = 1,
    ) -> None:
        super().__init__(network, network_multiple)
        if shrink < 1 or min(tile) < 2 * shrink or any(side % shrink for side in tile):
            raise ArgumentError(
                "Expected `tile` to be (height, width), multiples of `shrink` and at least twice "
                f"that, but got {tuple(tile)} and {shrink}."
            )
        if not 0 <= overlap < 1:
            raise ArgumentError(f"Expected `overlap` in [0, 1), but got {overlap}.")
        if blending not in get_args(Blending):
            raise ArgumentError(
                f"Expected `blending` of {get_args(Blending)}, but got {blending!r}."
            )
        self.tile = tile
        self.overlap = overlap
        self.blending = blending
        self.shrink = shrink

    @property
    def display_name(self) -> str:
        """Size and overlap of the tiles."""
        return f"tiles of {self.tile[0]} x {self.tile[1]}, overlap {self.overlap:g}"

    def forward(self, image: Tensor, labels: Tensor | None = None) -> TilePrediction:
        """Logits of a random tile of each image in training, else of all pixels.

        Args:
            image: (b, 3, H, W), uint8, or float in [0, 1].
            labels: nothing here looks at them.
        """
        source = InMemoryImage(image)
        if self.training:
            tiles, corners = random_tiles(image, self.tile)
            tiles = InMemoryImage(tiles).rows(0, self.tile[0])
            return TilePrediction(self.tile_logits(tiles), tiles, corners)
        probabilities = torch.cat(list(self.probability_rows(source)), dim=2)
        logits = probabilities.clamp_min(torch.finfo(probabilities.dtype).tiny).log()
        corners = torch.zeros(len(image), 2, dtype=torch.long)
        return TilePrediction(logits, source.rows(0, source.size[0]), corners)

    @torch.no_grad()
    def segment(self, image: Tensor, labels: Tensor | None = None) -> Tensor:
        """The class of every pixel: (b, 3, H, W) to (b, H, W) uint8, as :meth:`label_rows`."""
        return torch.cat(list(self.label_rows(InMemoryImage(image))), dim=1)

    def label_bands(self, source: ImageSource) -> Iterator[Tensor]:
        """The class of every pixel; only two rows of tiles are in memory."""
        return (rows[0].cpu() for rows in self.label_rows(source))

    def label_rows(self, source: ImageSource) -> Iterator[Tensor]:
        """The class of every pixel, (b, n, W) uint8, from top to bottom."""
        for rows in self.probability_rows(source):
            with record_function("unwarp"):
                yield rows.argmax(dim=1).to(torch.uint8)

    @torch.no_grad()
    def probability_rows(self, source: ImageSource) -> Iterator[Tensor]:
        """Weighted means of the tiles' probabilities (b, k, n, W), from top to bottom."""
        size = source.size
        (tops, lefts), (h, w) = self._places(size), self.tile
        weights = tile_weights(tops, h, self.blending), tile_weights(lefts, w, self.blending)
        held: dict[int, Tensor] = {}  # the row of tiles that is worked on

        def tile_at(i: int, j: int) -> Tensor:
            if i not in held:
                held.clear()
                held[i] = extended(source.rows(tops[i], min(tops[i] + h, size[0])), self.tile)
            logits = self.tile_logits(held[i][..., lefts[j] : lefts[j] + w])
            return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=1)

        left = size[0]
        for rows in blend_rows(tile_at, tops, lefts, weights):
            yield rows[:, :, :left, : size[1]]
            left -= rows.shape[2]

    def tile_logits(self, tiles: Tensor) -> Tensor:
        """Tiles (b, 3, h, w) in [0, 1] to logits of their pixels (b, k, h, w)."""
        with record_function("network"):
            seen = F.avg_pool2d(tiles, self.shrink) if self.shrink > 1 else tiles
            logits = self._logits(seen)
        if self.shrink == 1 and logits.shape[2:] == tiles.shape[2:]:
            return logits
        with record_function("unwarp"):
            return warp(logits, _pixel_grid(tiles, self.shrink))

    def pixels(self, size: Size) -> int:
        """Those of all tiles, as the network sees them."""
        tops, lefts = self._places(size)
        return len(tops) * len(lefts) * self.tile[0] * self.tile[1] // self.shrink**2

    def _places(self, size: Size) -> tuple[list[int], list[int]]:
        tops, lefts = (
            tile_offsets(max(side, tile), tile, self.overlap)
            for side, tile in zip(size, self.tile, strict=True)
        )
        return tops, lefts


def _pixel_grid(tiles: Tensor, shrink: int) -> Tensor:
    """Where the pixels of tiles lie among the means of ``shrink`` pixels a side, (b, h, w, 2)."""
    h, w = tiles.shape[2:]
    # -1 and 1 are the centres of the first and the last mean; what lies outside sees the nearest.
    factors = tiles.new_tensor([(w - 1) / (w - shrink), (h - 1) / (h - shrink)])
    return identity_grid((h, w), tiles) * factors
