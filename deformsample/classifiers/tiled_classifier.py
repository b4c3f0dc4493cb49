"""Tiled classification at full resolution."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import get_args

import torch
from torch import Tensor, nn
from torch.autograd.profiler import record_function

from deformsample.classifiers.aggregation import (
    Aggregation,
    majority_vote,
    maximum_score,
    mean_probability,
)
from deformsample.classifiers.classifier import Classifier
from deformsample.errors import ArgumentError
from deformsample.geometry.tiling import pad_to, random_tiles, tile_offsets
from deformsample.samplers.image_source import white

_RULES: dict[Aggregation, Callable[[Tensor], Tensor]] = {
    "majority": majority_vote,
    "mean": mean_probability,
    "maximum": maximum_score,
}


class TiledClassifier(Classifier):
    """Classify tiles, and aggregate their scores.

    Training uses one random tile of each image with the label of the image. Otherwise, evenly
    spaced tiles cover the image. An image smaller than a tile is padded by repeating its last row
    and column.

    Args:
        network: normalised tile (b, 3, h, w) to scores (b, k).
        tile: (height, width) of a tile in pixels.
        overlap: smallest overlap of neighbouring tiles, as a fraction of a tile, in [0, 1).
        aggregation: ``majority`` vote, ``mean`` of the probabilities, or ``maximum`` of the raw
            scores; see :func:`majority_vote`, :func:`mean_probability`, :func:`maximum_score`.
        tiles_at_once: maximum number of tiles per forward pass outside of training (at least one of
            each image of the batch).
    """

    def __init__(
        self,
        network: nn.Module,
        tile: tuple[int, int] = (256, 256),
        overlap: float = 0.0,
        aggregation: Aggregation = "mean",
        tiles_at_once: int = 16,
    ) -> None:
        super().__init__(network)
        if min(*tile, tiles_at_once) < 1:
            raise ArgumentError(
                "Expected `tile` to be (height, width) and `tiles_at_once` a number, all at least "
                f"1, but got {tuple(tile)} and {tiles_at_once}."
            )
        if not 0 <= overlap < 1:
            raise ArgumentError(f"Expected `overlap` in [0, 1), but got {overlap}.")
        if aggregation not in _RULES:
            raise ArgumentError(
                f"Expected `aggregation` of {get_args(Aggregation)}, but got {aggregation!r}."
            )
        self.tile = tile
        self.overlap = overlap
        self.aggregation = aggregation
        self.tiles_at_once = tiles_at_once
        self.to(memory_format=torch.channels_last)

    @property
    def display_name(self) -> str:
        """The size of the tiles, and the aggregation."""
        return f"tiles of {self.tile[0]} x {self.tile[1]}, {self.aggregation}"

    def forward(self, image: Tensor) -> Tensor:
        """Scores of a random tile of each image in training, otherwise of the image.

        Args:
            image: as in :class:`Classifier`.

        Returns:
            (b, k); without gradient outside of training.
        """
        if self.training:
            return self._scores(random_tiles(image, self.tile)[0])
        return _RULES[self.aggregation](self.tile_scores(image))

    @torch.no_grad()
    def tile_scores(self, image: Tensor) -> Tensor:
        """Images (b, 3, H, W) to the raw scores (b, t, k) of their tiles, row by row."""
        image = pad_to(image, self.tile)
        (h, w), (height, width) = self.tile, image.shape[2:]
        corners = itertools.product(
            tile_offsets(height, h, self.overlap), tile_offsets(width, w, self.overlap)
        )
        at_once = max(1, self.tiles_at_once // len(image))
        scores: list[Tensor] = []
        while chunk := list(itertools.islice(corners, at_once)):
            tiles = torch.cat([image[:, :, y : y + h, x : x + w] for y, x in chunk])
            scores.append(self._scores(tiles).unflatten(0, (len(chunk), len(image))))
        return torch.cat(scores).transpose(0, 1)

    def _scores(self, tiles: Tensor) -> Tensor:
        with record_function("network"):
            scores: Tensor = self.network(self.normalize(tiles / white(tiles)))
        return scores
