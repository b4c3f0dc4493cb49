"""Streaming: tiled forward and backward passes of a convolutional network.

After Pinckaers, van Ginneken and Litjens, "Streaming convolutional neural networks for end-to-end
learning with multi-megapixel images" (TPAMI 2020).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.networks.receptive import FROZEN, Span, clip, cut, divide
from deformsample.networks.tracing import trace

Spans: TypeAlias = Sequence[Span]
"""Spans of the image and of the output of every step that a tile needs, along one axis."""


class Streamed(nn.Module):
    """Features and gradients of the whole image, in the memory of a tile.

    The *output* is divided into tiles. Each tile is computed from its receptive field in the image;
    only outside of the map of a layer, the input of the layer is padding. Activations are not kept:
    the backward pass recomputes each tile (``torch.utils.checkpoint``) and accumulates gradients.
    Tiles are disjoint, so the sum is the exact gradient. (The published method has overlapping
    tiles and trims gradients layer by layer.)

    The cost is one more forward pass, and the overlap of receptive fields: neighbouring tiles share
    ``field - stride`` pixels per side, so the MACs of the first layers grow by a factor of up to
    ``(tile / (tile - field + stride)) ** 2``, those of deeper layers by less.

    The body can have branches and sums, like ResNets. Supported layers are ``Conv2d`` with zero
    padding, ``MaxPool2d``, ``AvgPool2d``, non-linearities, and ``BatchNorm2d`` in evaluation mode
    (in training mode, its statistics would be those of a tile). Layers that depend on the whole
    image, such as global pooling, come after this module.

    Args:
        body: network from an image (b, c, H, W) to features (b, k, h, w). It is traced once:
            weights can be loaded later, but layers cannot be replaced.
        tile: side of a tile in image pixels, including overlap. The peak memory grows with its
            square.
        prepare: elementwise function from a region of the image to the input of the body. With it,
            the whole image can be uint8, or on another device.

    Attributes:
        field: (h, w) of the receptive field, in pixels.
        stride: image pixels per output cell, (down, right).

    Raises:
        ArgumentError: a layer cannot be streamed, or the tile is smaller than the receptive field.

    Example:
        >>> body = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU())
        >>> features = Streamed(body, tile=64)
        >>> features(torch.rand(1, 3, 200, 300)).shape, features.field
        (torch.Size([1, 8, 100, 150]), (3, 3))
    """

    def __init__(
        self, body: nn.Module, tile: int, prepare: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        super().__init__()
        self.body = body
        self.prepare = prepare
        self.steps = trace(body)
        self.field = self._seen(0, cells=1), self._seen(1, cells=1)
        self.stride = tuple(self._seen(axis, cells=2) - self.field[axis] for axis in (0, 1))
        if tile < max(self.field):
            raise ArgumentError(
                "Expected `tile` to be at least the receptive field of the body, "
                f"{max(self.field)} pixels, but got {tile}."
            )
        self.tile = tile

    def forward(self, image: Tensor) -> Tensor:
        """Image (b, c, H, W) to features (b, k, h, w).

        Raises:
            ArgumentError: a norm or dropout in training mode, an image that is too small, or an
                integer image without ``prepare``.
        """
        self._check_frozen()
        if self.prepare is None and not image.is_floating_point():
            raise ArgumentError(
                f"Expected an image of a float dtype, but got {image.dtype}: set `prepare` to "
                "convert it."
            )
        sizes = self._sizes((image.shape[2], image.shape[3]))
        rows_of_tiles, columns_of_tiles = (self._tiles(axis, sizes) for axis in (0, 1))
        bands: list[Tensor] = []
        for rows in rows_of_tiles:
            # In two steps, since the gradient of a slice has the size of its source.
            band = image[:, :, slice(*rows[0])]
            tiles = [
                self._checkpointed(band[..., slice(*columns[0])], rows, columns, sizes)
                for columns in columns_of_tiles
            ]
            bands.append(torch.cat(tiles, dim=3))
        return torch.cat(bands, dim=2)

    def _checkpointed(self, *tile: object) -> Tensor:
        # No layer draws random numbers, so there is no state to restore.
        features: Tensor = checkpoint(
            self._features, *tile, use_reentrant=False, preserve_rng_state=False
        )
        return features

    def _features(
        self, image: Tensor, rows: Spans, columns: Spans, sizes: Sequence[Size]
    ) -> Tensor:
        """A tile of the output from its region of the image."""
        maps = {0: image if self.prepare is None else self.prepare(image)}
        for index, step in enumerate(self.steps, start=1):
            layer = None if step.layer is None else self.body.get_submodule(step.layer)
            wanted = (
                step.windows[0].needed(rows[index]),
                step.windows[1].needed(columns[index]),
            )
            fill = -torch.inf if isinstance(layer, nn.MaxPool2d) else 0.0
            inputs = [
                cut(maps[i], (rows[i], columns[i]), wanted, sizes[i], fill) for i in step.inputs
            ]
            for i in step.done:
                del maps[i]
            maps[index] = _apply(layer, inputs)
        return maps[len(self.steps)]

    def _sizes(self, image_size: Size) -> list[Size]:
        """(h, w) of the image, then of the output of every step."""
        sizes = [image_size]
        for step in self.steps:
            before, *others = (sizes[i] for i in step.inputs)
            rows, columns = step.windows
            size = rows.outputs(before[0]), columns.outputs(before[1])
            if min(size) < 1:
                raise ArgumentError(
                    "Expected an image large enough for the body, but {} x {} pixels give an empty "
                    "map after `{}`.".format(*image_size, step.layer)
                )
            if any(other != before for other in others):
                raise ArgumentError(
                    f"Expected sums of maps of one size, but got {before} and {others[0]}."
                )
            sizes.append(size)
        return sizes

    def _tiles(self, axis: int, sizes: Sequence[Size]) -> list[Spans]:
        """The spans of each tile along an axis."""
        counts = [size[axis] for size in sizes]
        cells = (self.tile - self.field[axis]) // self.stride[axis] + 1
        return [self._spans(axis, output, counts) for output in divide(counts[-1], cells)]

    def _spans(self, axis: int, output: Span, counts: Sequence[int] | None) -> Spans:
        """The spans that an output span needs, in maps of ``counts`` cells or unbounded maps."""
        spans = {len(self.steps): output}
        for index, step in reversed(list(enumerate(self.steps, start=1))):
            needed = step.windows[axis].needed(spans[index])
            for i in step.inputs:
                span = clip(needed, counts[i]) if counts else needed
                other = spans.get(i, span)
                spans[i] = min(span[0], other[0]), max(span[1], other[1])
        return [spans[index] for index in range(len(self.steps) + 1)]

    def _seen(self, axis: int, cells: int) -> int:
        """The number of image pixels in the receptive field of adjacent output cells."""
        start, stop = self._spans(axis, (0, cells), None)[0]
        return stop - start

    def _check_frozen(self) -> None:
        for step in self.steps:
            layer = None if step.layer is None else self.body.get_submodule(step.layer)
            if isinstance(layer, FROZEN) and layer.training:
                raise ArgumentError(
                    f"Expected `{step.layer}` in evaluation mode, since a {type(layer).__name__} "
                    "in training mode depends on the tiles: call its `eval()`."
                )


def _apply(layer: nn.Module | None, inputs: Sequence[Tensor]) -> Tensor:
    """The output of a layer, or of a sum, with padded inputs."""
    if layer is None:
        return inputs[0] + inputs[1]
    (x,) = inputs
    if isinstance(layer, nn.Conv2d):
        return F.conv2d(x, layer.weight, layer.bias, layer.stride, 0, layer.dilation, layer.groups)
    if isinstance(layer, nn.MaxPool2d):
        return F.max_pool2d(x, layer.kernel_size, layer.stride, 0, layer.dilation)
    if isinstance(layer, nn.AvgPool2d):
        return F.avg_pool2d(
            x, layer.kernel_size, layer.stride, divisor_override=layer.divisor_override
        )
    output: Tensor = layer(x)
    return output
