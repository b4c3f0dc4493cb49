"""Regions of an image with a higher or lower sampling density.

Convention: points are in pixels (x, y), where pixel x extends from x - 1/2 to x + 1/2. A box
(x0, y0, x1, y1) has the pixels of ``image[y0:y1, x0:x1]``: with x0 and y0, but without x1 and y1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from deformsample.conventions import Size


def box_coverage(boxes: Tensor, image_size: Size, size: Size) -> Tensor:
    """The share of each cell of a density map that lies in any of some boxes.

    Args:
        boxes: (n, 4), x0, y0, x1, y1 in pixels, with x0 < x1 and y0 < y1; parts outside of the
            image are ignored.
        image_size: (H, W) of the image.
        size: (h, w) of the density map.

    Returns:
        (h, w) float64 in [0, 1].

    Example:
        >>> boxes = torch.tensor([[0.0, 0.0, 3.0, 5.0], [1.0, 0.0, 3.0, 5.0]])
        >>> box_coverage(boxes, (5, 9), (2, 3)).tolist()  # the middle cell begins at x = 2
        [[1.0, 0.125, 0.0], [1.0, 0.125, 0.0]]
    """
    left, top, right, bottom = (boxes.double() - 0.5).unbind(1)
    columns, rows = (torch.cat(ends).unique() for ends in ((left, right), (top, bottom)))
    across = (left[:, None] <= columns[:-1]) & (columns[:-1] < right[:, None])
    down = (top[:, None] <= rows[:-1]) & (rows[:-1] < bottom[:, None])
    # Between the sides of all boxes, a rectangle is inside of a box or outside of all.
    inside = down.double().T @ across.double() > 0
    return _coverage(inside, rows, columns, image_size, size)


def mask_coverage(mask: Tensor, size: Size) -> Tensor:
    """The share of each cell of a density map that lies in a mask.

    Args:
        mask: (H, W) bool, a pixel each.
        size: (h, w) of the density map.

    Returns:
        (h, w) float64 in [0, 1].

    Example:
        >>> mask = torch.zeros(5, 9, dtype=torch.bool)
        >>> mask[:, :3] = True
        >>> mask_coverage(mask, (2, 3)).tolist()
        [[1.0, 0.125, 0.0], [1.0, 0.125, 0.0]]
    """
    rows, columns = (torch.arange(n + 1).double() - 0.5 for n in mask.shape)
    return _coverage(mask, rows, columns, (mask.shape[0], mask.shape[1]), size)


def focused_density(density: Tensor, coverage: Tensor, factor: float) -> Tensor:
    """Multiply a density by a factor in a region, and restore its sum.

    Args:
        density: (b, 1, h, w).
        coverage: (h, w), the share of each cell in the region.
        factor: factor of the density in the region, relative to the rest of the image.

    Returns:
        (b, 1, h, w); the same density for a factor of 1.

    Example:
        >>> density, coverage = torch.full((1, 1, 2, 2), 0.25), torch.tensor([[1.0, 0.0]] * 2)
        >>> focused_density(density, coverage, 4.0).tolist()
        [[[[0.4000000059604645, 0.10000000149011612], [0.4000000059604645, 0.10000000149011612]]]]
    """
    gain = 1 + (factor - 1) * coverage.to(density)
    total, raised = (part.sum(dim=(2, 3), keepdim=True) for part in (density, density * gain))
    return density * (gain * (total / raised))


def _coverage(
    inside: Tensor, rows: Tensor, columns: Tensor, image_size: Size, size: Size
) -> Tensor:
    """The share of each cell inside, where ``inside`` is constant between rows and columns."""
    down = _shares(rows, image_size[0], size[0])
    across = _shares(columns, image_size[1], size[1])
    return (down @ inside.double() @ across.T).clamp(0, 1)


def _shares(edges: Tensor, pixels: int, cells: int) -> Tensor:
    """The share (cells, n) of each cell of an axis between neighbouring edges (n + 1,).

    Cell j extends half a cell to both sides of its vertex; those of the border end at the border.
    """
    last = pixels - 1
    middles = (torch.arange(cells + 1).double() - 0.5) * (last / (cells - 1))
    ends, edges = middles.clamp(0, last), edges.clamp(0, last)
    low = torch.maximum(ends[:-1, None], edges[None, :-1])
    high = torch.minimum(ends[1:, None], edges[None, 1:])
    return (high - low).clamp_min(0) / (ends[1:] - ends[:-1])[:, None]
