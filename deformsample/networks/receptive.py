"""Which part of its input a layer needs for a part of its output.

Parts are half-open intervals of cells, a :data:`Span` for each axis; the axes do not know each
other. A span may reach outside the map: there, a layer sees its padding.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from torch import Tensor, nn
from torch.nn import functional as F

from deformsample.conventions import Size
from deformsample.errors import ArgumentError

Span: TypeAlias = tuple[int, int]
"""First cell, and one past the last."""

POINTWISE = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU),
    *(nn.Mish, nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Sigmoid, nn.LogSigmoid, nn.Tanh),
    *(nn.Softplus, nn.Softsign, nn.Identity),
)
"""Layers whose every output value depends on the one input value at its place."""

FROZEN = (nn.BatchNorm2d, nn.Dropout, nn.Dropout2d)
"""Layers that are pointwise in evaluation mode only."""


class Window(NamedTuple):
    """What one output cell of a layer sees along an axis."""

    length: int = 1
    """From the first to the last cell that it sees, those that a dilation skips included."""

    stride: int = 1
    before: int = 0
    """Padding before the first cell of the map."""

    after: int = 0
    """Padding behind its last cell."""

    def outputs(self, count: int) -> int:
        """How many output cells a map of ``count`` cells gives."""
        return (count + self.before + self.after - self.length) // self.stride + 1

    def needed(self, span: Span) -> Span:
        """What the output cells of a span see of the input, padding included."""
        first, last = (cell * self.stride - self.before for cell in (span[0], span[1] - 1))
        return first, last + self.length


Windows: TypeAlias = tuple[Window, Window]
"""Along rows, and along columns."""


def layer_windows(name: str, layer: nn.Module) -> Windows:
    """What a layer sees of its input.

    Args:
        name: of the layer, for errors.
        layer: of one of the kinds that :class:`~deformsample.networks.Streamed` names. A subclass
            is not taken for its base, since it may do something else.

    Raises:
        ArgumentError: it is of another kind, or has an option that depends on more than a window.
    """
    kind = type(layer)
    if kind in POINTWISE:
        return Window(), Window()
    if kind in FROZEN:
        if isinstance(layer, nn.BatchNorm2d) and layer.running_mean is None:
            raise _unfit(name, layer, "without `track_running_stats` it looks at the whole map")
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
    raise _unfit(name, layer, "its kind is not known here")


def _unfit(name: str, layer: nn.Module, reason: str) -> ArgumentError:
    return ArgumentError(
        "Expected a `body` of Conv2d, MaxPool2d, AvgPool2d, BatchNorm2d, non-linearities and sums, "
        f"but `{name}`, a {type(layer).__name__}, cannot be streamed: {reason}. Change it, or move "
        "it behind the streamed part."
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
    """The cells of a span that a map of ``count`` cells has, and the nearest one if there are none.

    Never empty, since layers do not take empty maps.
    """
    start = min(max(span[0], 0), count - 1)
    return start, max(min(span[1], count), start + 1)


def parts(count: int, most: int) -> list[Span]:
    """``count`` cells in the fewest spans of at most ``most``, as equal as they can be."""
    number = -(-count // most)
    return [(i * count // number, (i + 1) * count // number) for i in range(number)]


def cut(
    values: Tensor, held: tuple[Span, Span], wanted: tuple[Span, Span], size: Size, fill: float
) -> Tensor:
    """A part of a map, with padding where it reaches outside.

    Args:
        values: the part of the map that is at hand, (b, c, h, w).
        held: its rows and columns; they cover ``wanted`` as far as the map goes.
        wanted: the rows and columns to return.
        size: (H, W) of the map.
        fill: the value of the padding.
    """
    padding: list[int] = []
    for axis, ((origin, _), (start, stop), count) in enumerate(
        zip(held, wanted, size, strict=True), start=2
    ):
        before = min(max(-start, 0), stop - start)
        after = min(max(stop - count, 0), stop - start)
        inside = stop - start - before - after
        if inside != values.shape[axis]:
            values = values.narrow(axis, start + before - origin if inside else 0, inside)
        padding = [before, after, *padding]  # F.pad takes the last axis first
    return F.pad(values, padding, value=fill) if any(padding) else values
