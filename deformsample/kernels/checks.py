"""What grids, and values at their samples, must look like; for arrays and tensors alike."""

from __future__ import annotations

from collections.abc import Sequence

from deformsample.conventions import Size
from deformsample.errors import ArgumentError

NOBODY = 255
"""No class has this number, so that a triangle whose corners disagree can be told."""

BORDER_TOLERANCE = 1e-5  # normalised; a hundredth of a pixel in an image of 2,000


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
    """Raise ``ArgumentError`` where class ids would not fit in a byte beside ``NOBODY``."""
    if classes >= NOBODY:
        raise ArgumentError(
            f"Expected `logits` of at most {NOBODY - 1} classes, but got {classes}."
        )


def check_border(distance: float) -> None:
    """Raise ``ArgumentError`` where border samples are too far from the image border."""
    if not distance <= BORDER_TOLERANCE:
        raise ArgumentError(
            "Expected a `grid` whose border samples lie on the image border (-1 or 1), but some "
            f"are {distance:.3g} away: pixels outside its mesh would have no value."
        )
