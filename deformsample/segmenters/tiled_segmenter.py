"""Sliding-window segmentation at full resolution (Reina and Panchumarthy 2018)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple, get_args

import torch
from torch import Tensor, nn
from torch.autograd.profiler import record_function
from torch.nn import functional as F

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.geometry import warp
from deformsample.geometry.tiling import (
    Blending,
    blend_rows,
    pad_to,
    random_tiles,
    squeezed_axis,
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

    With ``context``, the network sees the whole image at every tile: the tile at full detail, and
    the rest squeezed around it by a monotone map of each axis
    (:func:`deformsample.geometry.tiling.squeezed_axis`). Only the logits of the tile are used, for
    the labels and for the loss. The receptive field of the network must reach the context. The
    idea is that of Liu et al. 2025, "Squeezing Context into Patches".

    Args:
        network: normalised image (b, 3, h, w) to logits (b, k, h', w'), with aligned corners.
        tile: (height, width) of a tile in pixels of the full image.
        overlap: smallest overlap of neighbouring tiles, as a fraction of a tile, in [0, 1).
        blending: ``constant`` (the mean), or ``gaussian`` (lower weights towards tile borders).
        downscale: factor per side by which tiles are averaged before the network; the logits are
            interpolated.
        network_multiple: pad the input of the network to a multiple of this by repeating the last
            row and column.
        context: share of the samples of each tile that lie around it, in [0, 1). The network has
            1 / (1 - ``context``) times the input pixels of a plain tile.

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
        context: float = 0.0,
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
        if not 0 <= context < 1:
            raise ArgumentError(f"Expected `context` in [0, 1), but got {context}.")
        self.tile = tile
        self.overlap = overlap
        self.blending = blending
        self.downscale = downscale
        self.context = context

    @property
    def display_name(self) -> str:
        """The size, overlap and context of the tiles."""
        context = f", context {self.context:g}" if self.context else ""
        return f"tiles of {self.tile[0]} x {self.tile[1]}, overlap {self.overlap:g}{context}"

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
            if self.context:
                logits = self.context_logits(tiles, source, corners.tolist())
            else:
                logits = self.tile_logits(tiles)
            return TilePrediction(logits, tiles, corners)
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
            tiles = row_cache[i][..., lefts[j] : lefts[j] + w]
            if self.context:
                logits = self.context_logits(tiles, source, [(tops[i], lefts[j])] * len(tiles))
            else:
                logits = self.tile_logits(tiles)
            return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=1)

        remaining = size[0]
        for rows in blend_rows(tile_at, tops, lefts, weights):
            yield rows[:, :, :remaining, : size[1]]
            remaining -= rows.shape[2]

    def tile_logits(self, tiles: Tensor) -> Tensor:
        """Tiles (b, 3, h, w) in [0, 1] to logits of their pixels (b, k, h, w)."""
        with record_function("network"):
            logits = self._logits(self._downscaled(tiles))
        if self.downscale == 1 and logits.shape[2:] == tiles.shape[2:]:
            return logits
        axes = (self._pixel_axis(n, n // self.downscale, 0) for n in self.tile)
        with record_function("unwarp"):
            return warp(logits, _grid(*axes).to(tiles).expand(len(tiles), -1, -1, -1))

    def context_logits(
        self, tiles: Tensor, source: ImageSource, corners: Sequence[tuple[int, int]]
    ) -> Tensor:
        """The same for tiles with the context of the images that they are cut from.

        Args:
            tiles: (b, 3, h, w) in [0, 1].
            source: the images.
            corners: first row and first column of each tile.
        """
        axes = [tuple(map(self._squeezed_axis, source.size, at, self.tile)) for at in corners]
        grid = torch.cat([_grid(y.grid, x.grid) for y, x in axes])
        pixels = torch.cat([_grid(y.pixels, x.pixels) for y, x in axes])
        with record_function("warp"):
            small = source.sample(grid.to(self.normalize.mean), lod_bias=0.0)
            for image, tile, (y, x) in zip(small, self._downscaled(tiles), axes, strict=True):
                image[:, y.inside, x.inside] = tile
        with record_function("network"):
            logits = self._logits(small)
        with record_function("unwarp"):
            return warp(logits, pixels.to(small))

    def _downscaled(self, tiles: Tensor) -> Tensor:
        return F.avg_pool2d(tiles, self.downscale) if self.downscale > 1 else tiles

    def _squeezed_axis(self, side: int, first: int, tile: int) -> _SqueezedAxis:
        samples, before = squeezed_axis(
            side, first, tile, self.downscale, self._samples(side, tile) - tile // self.downscale
        )
        return _SqueezedAxis(
            samples * (2 / max(1, side - 1)) - 1,
            slice(before, before + tile // self.downscale),
            self._pixel_axis(tile, len(samples), before),
        )

    def _samples(self, side: int, tile: int) -> int:
        """The samples of a tile and its context along an image side."""
        plain = tile // self.downscale
        outside = max(0, side - tile) // self.downscale
        return plain + min(round(plain / math.sqrt(1 - self.context)) - plain, outside)

    def _pixel_axis(self, tile: int, samples: int, before: int) -> Tensor:
        """Normalised coordinates of the pixels of a tile among its samples, (tile,)."""
        pixel = torch.arange(tile, dtype=torch.float64)
        position = before + (pixel - (self.downscale - 1) / 2) / self.downscale
        return position * (2 / (samples - 1)) - 1

    def pixels(self, size: Size) -> int:
        """The input pixels of the network for all tiles."""
        return math.prod(
            len(offsets) * self._samples(side, tile)
            for offsets, side, tile in zip(self._offsets(size), size, self.tile, strict=True)
        )

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


class _SqueezedAxis(NamedTuple):
    """One axis of the sampling grid of a tile with its context."""

    grid: Tensor
    """Normalised coordinates of the samples in the image, (n,)."""

    inside: slice
    """The samples of the tile."""

    pixels: Tensor
    """Normalised coordinates of the pixels of the tile among the samples, (tile,)."""


def _grid(y: Tensor, x: Tensor) -> Tensor:
    """The grid (1, h, w, 2) of two axes."""
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return torch.stack((columns, rows), dim=-1)[None]
