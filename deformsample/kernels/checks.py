"""Checks of grids and of values at their samples, for arrays and tensors."""

from __future__ import annotations

from collections.abc import Sequence

from deformsample.conventions import Size
from deformsample.errors import ArgumentError

NO_CLASS = 255
"""Reserved class id; marks triangles whose corners disagree."""

BORDER_TOLERANCE = 1e-5  # normalised; 0.01 pixels in an image of 2,000 pixels


def check_size(size: Size, name: str) -> None:
    """Raise ``ArgumentError`` unless ``size`` is (h, w) with at least two samples per side."""
    if len(size) != 2 or min(size) < 2:
        raise ArgumentError(
            f"Expected `{name}` to be (height, width) with at least 2 per side, but got "
            f"{tuple(size)}: one sample has no neighbour to interpolate with."
        )


def check_grid_shape(shape: Sequence[int]) -> None:
    """Raise ``ArgumentError`` unless ``shape`` is (b, h, w, 2)."""
    if len(shape) != 4 or shape[-1] != 2:
        hint = ": are the channels first?" if len(shape) == 4 and shape[1] == 2 else "."
        raise ArgumentError(f"Expected `grid` of shape (b, h, w, 2), but got {tuple(shape)}{hint}")
    check_size((shape[1], shape[2]), "grid size")


def check_values_shape(shape: Sequence[int], grid_shape: Sequence[int]) -> None:
    """Raise ``ArgumentError`` unless ``shape`` is (b, c, h, w), for a grid of (b, h, w, 2)."""
    b, h, w, _ = grid_shape
    if len(shape) != 4 or (shape[0], *shape[2:]) != (b, h, w):
        raise ArgumentError(
            f"Expected `values` of shape ({b}, c, {h}, {w}), one for each sample of the grid, but "
            f"got {tuple(shape)}."
        )


def check_class_count(classes: int) -> None:
    """Raise ``ArgumentError`` if class ids and ``NO_CLASS`` do not fit in a byte."""
    if classes >= NO_CLASS:
        raise ArgumentError(
            f"Expected `logits` of at most {NO_CLASS - 1} classes, but got {classes}."
        )


def check_border(distance: float) -> None:
    """Raise ``ArgumentError`` if border samples are too far from the image border."""
    if not distance <= BORDER_TOLERANCE:
        raise ArgumentError(
            "Expected a `grid` whose border samples lie on the image border (-1 or 1), but some "
            f"are {distance:.3g} away: pixels outside its mesh would have no value."
        )
