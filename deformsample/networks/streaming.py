"""Streaming: a convolutional network on an image of any size, tile by tile, in training too.

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
from deformsample.networks.receptive import FROZEN, Span, clip, cut, parts
from deformsample.networks.tracing import trace

Spans: TypeAlias = Sequence[Span]
"""Along one axis, the parts of the image and of the output of every step that a tile needs."""


class Streamed(nn.Module):
    """The same features and gradients as of the whole image, in the memory of a tile.

    The *output* is cut into tiles. Each is computed from the part of the image that its receptive
    field covers; what reaches over the border of a layer's map is that layer's padding, so a tile
    has no borders of its own. No activations are kept: the backward pass computes each tile again
    (``torch.utils.checkpoint``), and adds up the gradients. Every output cell belongs to exactly
    one tile, so that their sum is the gradient of the whole. (The published method trims gradients
    layer by layer instead, since its tiles share output cells.)

    The price is one more forward pass, and the overlap: neighbouring tiles share ``field - stride``
    pixels per side, so the first layers work up to ``(tile / (tile - field + stride)) ** 2`` times
    as much, deeper ones less.

    The body may branch and add, as ResNets do. Its layers may be ``Conv2d`` with zero padding,
    ``MaxPool2d``, ``AvgPool2d``, non-linearities, and ``BatchNorm2d`` in evaluation mode: in
    training mode, its statistics would be those of a tile. Whatever looks at the whole image, such
    as the pooling before a classifier, comes behind this module.

    Args:
        body: from an image (b, c, H, W) to features (b, k, h, w). Its layers are looked at once:
            other weights may be loaded later, other layers may not be put in.
        tile: how many pixels of the image are in work at a time, per side, overlap included. The
            peak of the memory grows with its square.
        prepare: from a part of the image, of any size, to what the body takes, value by value. With
            it the whole image may stay in bytes, or on another device.

    Attributes:
        field: (h, w) of the receptive field, in pixels.
        stride: pixels of the image from one output cell to the next, (down, right).

    Raises:
        ArgumentError: a layer cannot be streamed, or the tile is smaller than the receptive field.
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
            ArgumentError: a norm or dropout is in training mode, the image is too small, or it is
                not of floats and there is no ``prepare``.
        """
        self._check_frozen()
        if self.prepare is None and not image.is_floating_point():
            raise ArgumentError(
                f"Expected an image of floats, but got {image.dtype}: give `prepare`, which makes "
                "floats of a part of the image."
            )
        sizes = self._sizes((image.shape[2], image.shape[3]))
        rows_of_tiles, columns_of_tiles = (self._tiles(axis, sizes) for axis in (0, 1))
        bands: list[Tensor] = []
        for rows in rows_of_tiles:
            # Two steps, since the gradient of each part is first laid out as large as its source.
            band = image[:, :, slice(*rows[0])]
            tiles = [
                self._checkpointed(band[..., slice(*columns[0])], rows, columns, sizes)
                for columns in columns_of_tiles
            ]
            bands.append(torch.cat(tiles, dim=3))
        return torch.cat(bands, dim=2)

    def _checkpointed(self, *tile: object) -> Tensor:
        # Layers that draw random numbers are not allowed, so there is no state to restore.
        features: Tensor = checkpoint(
            self._features, *tile, use_reentrant=False, preserve_rng_state=False
        )
        return features

    def _features(self, part: Tensor, rows: Spans, columns: Spans, sizes: Sequence[Size]) -> Tensor:
        """A tile of the output from its part of the image."""
        held = {0: part if self.prepare is None else self.prepare(part)}
        for number, step in enumerate(self.steps, start=1):
            layer = None if step.layer is None else self.body.get_submodule(step.layer)
            wanted = (
                step.windows[0].needed(rows[number]),
                step.windows[1].needed(columns[number]),
            )
            fill = -torch.inf if isinstance(layer, nn.MaxPool2d) else 0.0
            inputs = [
                cut(held[i], (rows[i], columns[i]), wanted, sizes[i], fill) for i in step.inputs
            ]
            for i in step.done:
                del held[i]
            held[number] = _apply(layer, inputs)
        return held[len(self.steps)]

    def _sizes(self, image_size: Size) -> list[Size]:
        """(h, w) of the image, then of the output of every step."""
        sizes = [image_size]
        for step in self.steps:
            before, *others = (sizes[i] for i in step.inputs)
            rows, columns = step.windows
            size = rows.outputs(before[0]), columns.outputs(before[1])
            if min(size) < 1:
                raise ArgumentError(
                    "Expected an image large enough for the body, but of {} x {} pixels nothing "
                    "is left after `{}`.".format(*image_size, step.layer)
                )
            if any(other != before for other in others):
                raise ArgumentError(
                    f"Expected sums of maps of one size, but got {before} and {others[0]}."
                )
            sizes.append(size)
        return sizes

    def _tiles(self, axis: int, sizes: Sequence[Size]) -> list[Spans]:
        """What each tile needs along an axis."""
        counts = [size[axis] for size in sizes]
        cells = (self.tile - self.field[axis]) // self.stride[axis] + 1
        return [self._spans(axis, part, counts) for part in parts(counts[-1], cells)]

    def _spans(self, axis: int, output: Span, counts: Sequence[int] | None) -> Spans:
        """What a part of the output needs, within maps of ``counts`` cells or endless ones."""
        spans = {len(self.steps): output}
        for number, step in reversed(list(enumerate(self.steps, start=1))):
            needed = step.windows[axis].needed(spans[number])
            for i in step.inputs:
                span = clip(needed, counts[i]) if counts else needed
                other = spans.get(i, span)
                spans[i] = min(span[0], other[0]), max(span[1], other[1])
        return [spans[number] for number in range(len(self.steps) + 1)]

    def _seen(self, axis: int, cells: int) -> int:
        """How many pixels some neighbouring output cells see."""
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
    """The output of a layer, or of a sum, whose inputs are padded already."""
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
