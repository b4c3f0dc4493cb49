"""Classification tile by tile, at full resolution."""

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
    """Classify tiles, and conclude from their scores to the image.

    In training, one tile is cut from each image at random, and learns the image's class. Else tiles
    lie at even distances from border to border, and ``aggregation`` makes one of their scores. An
    image that is smaller than a tile is continued by its last row and column.

    Args:
        network: normalised tile (b, 3, h, w) to scores (b, k).
        tile: (height, width) of a tile in pixels.
        overlap: share of a tile that the next one sees again, at least; in [0, 1).
        aggregation: ``majority`` vote, ``mean`` of the probabilities, or ``maximum`` of the raw
            scores; see :func:`majority_vote`, :func:`mean_probability`, :func:`maximum_score`.
        tiles_at_once: how many tiles the network gets at a time outside of training, at most (one
            of each image of the batch, at least).
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
        """Size of the tiles, and the rule."""
        return f"tiles of {self.tile[0]} x {self.tile[1]}, {self.aggregation}"

    def forward(self, image: Tensor) -> Tensor:
        """Scores of a random tile of each image in training, else of the image.

        Args:
            image: as of :class:`Classifier`.

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
        while some := list(itertools.islice(corners, at_once)):
            tiles = torch.cat([image[:, :, y : y + h, x : x + w] for y, x in some])
            scores.append(self._scores(tiles).unflatten(0, (len(some), len(image))))
        return torch.cat(scores).transpose(0, 1)

    def _scores(self, tiles: Tensor) -> Tensor:
        with record_function("network"):
            scores: Tensor = self.network(self.normalize(tiles / white(tiles)))
        return scores
