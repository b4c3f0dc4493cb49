"""Sliding-window segmentation at full resolution (Reina and Panchumarthy 2018)."""

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
    pad_to,
    random_tiles,
    tile_offsets,
    tile_weights,
)
from deformsample.samplers.focus import Focus
from deformsample.samplers.image_source import ImageSource, InMemoryImage
from deformsample.segmenters.prediction import TilePrediction
from deformsample.segmenters.segmenter import Segmenter


class TiledSegmenter(Segmenter):
    """Segment overlapping tiles at full resolution, and blend their probabilities.

    Training uses one random tile of each image. Otherwise, evenly spaced tiles cover the image, and
    at most two rows of tiles are in memory. An image smaller than a tile is padded by repeating its
    last row and column.

    Args:
        network: normalised image (b, 3, h, w) to logits (b, k, h', w'), with aligned corners.
        tile: (height, width) of a tile in pixels of the full image.
        overlap: smallest overlap of neighbouring tiles, as a fraction of a tile, in [0, 1).
        blending: ``constant`` (the mean), or ``gaussian`` (lower weights towards tile borders).
        downscale: factor per side by which tiles are averaged before the network; the logits are
            interpolated.
        network_multiple: pad the input of the network to a multiple of this by repeating the last
            row and column.

    Example:
        >>> from deformsample.networks import UNet
        >>> segmenter = TiledSegmenter(UNet(num_classes=3, widths=(8, 16)), tile=(64, 64)).eval()
        >>> segmenter.segment(torch.rand(1, 3, 100, 150)).shape
        torch.Size([1, 100, 150])
    """

    def __init__(
        self,
        network: nn.Module,
        tile: tuple[int, int] = (256, 256),
        overlap: float = 0.5,
        blending: Blending = "constant",
        downscale: int = 1,
        network_multiple: int = 1,
    ) -> None:
        super().__init__(network, network_multiple)
        if downscale < 1 or min(tile) < 2 * downscale or any(side % downscale for side in tile):
            raise ArgumentError(
                "Expected `tile` to be (height, width), multiples of `downscale` and at least "
                f"twice as large, but got {tuple(tile)} and {downscale}."
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
        self.downscale = downscale

    @property
    def display_name(self) -> str:
        """The size and overlap of the tiles."""
        return f"tiles of {self.tile[0]} x {self.tile[1]}, overlap {self.overlap:g}"

    def forward(self, image: Tensor, labels: Tensor | None = None) -> TilePrediction:
        """Logits of a random tile of each image in training, otherwise of all pixels.

        Args:
            image: (b, 3, H, W), uint8, or float in [0, 1].
            labels: unused.
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
    def segment(
        self,
        image: Tensor,
        labels: Tensor | None = None,
        *,
        focus: Focus | None = None,
        guided: bool = False,
    ) -> Tensor:
        """The class of every pixel: (b, 3, H, W) to (b, H, W) uint8, as :meth:`label_rows`."""
        _check_options(focus, guided=guided)
        return torch.cat(list(self.label_rows(InMemoryImage(image))), dim=1)

    def label_bands(
        self, source: ImageSource, *, focus: Focus | None = None, guided: bool = False
    ) -> Iterator[Tensor]:
        """The class of every pixel; only two rows of tiles are in memory."""
        _check_options(focus, guided=guided)
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
        (tops, lefts), (h, w) = self._offsets(size), self.tile
        weights = tile_weights(tops, h, self.blending), tile_weights(lefts, w, self.blending)
        row_cache: dict[int, Tensor] = {}  # the current row of tiles

        def tile_at(i: int, j: int) -> Tensor:
            if i not in row_cache:
                row_cache.clear()
                row_cache[i] = pad_to(source.rows(tops[i], min(tops[i] + h, size[0])), self.tile)
            logits = self.tile_logits(row_cache[i][..., lefts[j] : lefts[j] + w])
            return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=1)

        remaining = size[0]
        for rows in blend_rows(tile_at, tops, lefts, weights):
            yield rows[:, :, :remaining, : size[1]]
            remaining -= rows.shape[2]

    def tile_logits(self, tiles: Tensor) -> Tensor:
        """Tiles (b, 3, h, w) in [0, 1] to logits of their pixels (b, k, h, w)."""
        with record_function("network"):
            small = F.avg_pool2d(tiles, self.downscale) if self.downscale > 1 else tiles
            logits = self._logits(small)
        if self.downscale == 1 and logits.shape[2:] == tiles.shape[2:]:
            return logits
        with record_function("unwarp"):
            return warp(logits, _pixel_grid(tiles, self.downscale))

    def pixels(self, size: Size) -> int:
        """The input pixels of the network for all tiles."""
        tops, lefts = self._offsets(size)
        return len(tops) * len(lefts) * self.tile[0] * self.tile[1] // self.downscale**2

    def _offsets(self, size: Size) -> tuple[list[int], list[int]]:
        tops, lefts = (
            tile_offsets(max(side, tile), tile, self.overlap)
            for side, tile in zip(size, self.tile, strict=True)
        )
        return tops, lefts


def _check_options(focus: Focus | None, *, guided: bool) -> None:
    given = {"focus": focus is not None, "guided": guided}
    for name in (name for name, value in given.items() if value):
        raise ArgumentError(
            f"Expected a model that samples images for `{name}`, but got one of tiles at full "
            "resolution."
        )


def _pixel_grid(tiles: Tensor, downscale: int) -> Tensor:
    """Coordinates of the pixels of tiles in the downscaled tiles, (b, h, w, 2)."""
    h, w = tiles.shape[2:]
    # -1 and 1 are the centres of the first and last downscaled pixel; others take the nearest.
    factors = tiles.new_tensor([(w - 1) / (w - downscale), (h - 1) / (h - downscale)])
    return identity_grid((h, w), tiles) * factors
