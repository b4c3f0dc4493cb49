"""Receptive fields: the region of its input that a layer needs for a region of its output.

Regions are half-open intervals of cells, one :data:`Span` per axis. A span can exceed the map;
there, the input is padding.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from torch import Tensor, nn
from torch.nn import functional as F

from deformsample.conventions import Size
from deformsample.errors import ArgumentError

Span: TypeAlias = tuple[int, int]
"""First cell, and the cell after the last."""

POINTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.LogSigmoid, nn.Tanh),
    *(nn.Softplus, nn.Softsign, nn.Identity),
)
"""Elementwise layers."""

FROZEN = (nn.BatchNorm2d, nn.Dropout, nn.Dropout2d)
"""Layers that are elementwise only in evaluation mode."""


class Window(NamedTuple):
    """The receptive field of one output cell along an axis."""

    length: int = 1
    """Length in cells, including cells that a dilation skips."""

    stride: int = 1
    before: int = 0
    """Padding before the first cell of the map."""

    after: int = 0
    """Padding after the last cell."""

    def outputs(self, count: int) -> int:
        """The number of output cells for ``count`` input cells."""
        return (count + self.before + self.after - self.length) // self.stride + 1

    def needed(self, span: Span) -> Span:
        """The input span of an output span, including padding."""
        first, last = (cell * self.stride - self.before for cell in (span[0], span[1] - 1))
        return first, last + self.length


Windows: TypeAlias = tuple[Window, Window]
"""Along rows, and along columns."""


def layer_windows(name: str, layer: nn.Module) -> Windows:
    """The receptive field of a layer.

    Args:
        name: name of the layer in errors.
        layer: a layer of a type in :class:`~deformsample.networks.Streamed`; subclasses are not
            supported.

    Raises:
        ArgumentError: another type, or an unsupported option.
    """
    kind = type(layer)
    if kind in POINTWISE:
        return Window(), Window()
    if kind in FROZEN:
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is None:
            raise _unfit(name, layer, "without `track_running_stats` it depends on the whole map")
        return Window(), Window()
    if isinstance(layer, nn.Conv2d) and kind is nn.Conv2d:
        if layer.padding_mode != "zeros":
            raise _unfit(name, layer, f"its `padding_mode` is {layer.padding_mode!r}, not 'zeros'")
        return _convolution(layer)
    if isinstance(layer, nn.MaxPool2d | nn.AvgPool2d) and kind in (nn.MaxPool2d, nn.AvgPool2d):
        if layer.ceil_mode:
            raise _unfit(name, layer, "its `ceil_mode` is True")
        if isinstance(layer, nn.MaxPool2d) and layer.return_indices:
            raise _unfit(name, layer, "its `return_indices` is True")
        if isinstance(layer, nn.AvgPool2d) and not layer.count_include_pad and layer.padding:
            raise _unfit(name, layer, "its `count_include_pad` is False")
        return _pooling(layer)
    raise _unfit(name, layer, "its type is not supported")


def _unfit(name: str, layer: nn.Module, reason: str) -> ArgumentError:
    return ArgumentError(
        "Expected a `body` of Conv2d, MaxPool2d, AvgPool2d, BatchNorm2d, non-linearities and sums, "
        f"but `{name}`, a {type(layer).__name__}, cannot be streamed: {reason}. Change it, or move "
        "it after the streamed body."
    )


def _convolution(layer: nn.Conv2d) -> Windows:
    windows = []
    for axis, (kernel, stride, dilation) in enumerate(
        zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    ):
        reach = dilation * (kernel - 1)
        if layer.padding == "same":
            before, after = reach // 2, reach - reach // 2
        else:
            before = after = 0 if layer.padding == "valid" else int(layer.padding[axis])
        windows.append(Window(reach + 1, stride, before, after))
    rows, columns = windows
    return rows, columns


def _pooling(layer: nn.MaxPool2d | nn.AvgPool2d) -> Windows:
    dilations = _pair(layer.dilation if isinstance(layer, nn.MaxPool2d) else 1)
    sides = (_pair(layer.kernel_size), _pair(layer.stride), _pair(layer.padding), dilations)
    rows, columns = (
        Window(dilation * (kernel - 1) + 1, stride, padding, padding)
        for kernel, stride, padding, dilation in zip(*sides, strict=True)
    )
    return rows, columns


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else value


def clip(span: Span, count: int) -> Span:
    """Clip a span to a map of ``count`` cells; the result has at least the nearest cell."""
    start = min(max(span[0], 0), count - 1)
    return start, max(min(span[1], count), start + 1)


def divide(count: int, most: int) -> list[Span]:
    """Divide ``count`` cells into the fewest, nearly equal spans of at most ``most`` cells."""
    spans = -(-count // most)
    return [(i * count // spans, (i + 1) * count // spans) for i in range(spans)]


def cut(
    values: Tensor, given: tuple[Span, Span], wanted: tuple[Span, Span], size: Size, fill: float
) -> Tensor:
    """Crop a region of a map, padded outside of the map.

    Args:
        values: the given region of the map, (b, c, h, w).
        given: rows and columns of ``values``; they cover ``wanted`` inside of the map.
        wanted: rows and columns to return.
        size: (H, W) of the map.
        fill: value of the padding.
    """
    padding: list[int] = []
    for axis, ((origin, _), (start, stop), count) in enumerate(
        zip(given, wanted, size, strict=True), start=2
    ):
        before = min(max(-start, 0), stop - start)
        after = min(max(stop - count, 0), stop - start)
        inside = stop - start - before - after
        if inside != values.shape[axis]:
            values = values.narrow(axis, start + before - origin if inside else 0, inside)
        padding = [before, after, *padding]  # F.pad takes the last axis first
    return F.pad(values, padding, value=fill) if any(padding) else values
