"""Density maps: the relative number of samples of every cell.

Convention: a density map is (b, 1, h, w), positive, with sum 1 over its cells. Cell (i, j) stands
for the normalised point of sample (i, j) of an h x w grid, so that its border cells lie on the
border of the image.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.geometry.coordinates import axis, identity_grid
from deformsample.geometry.dispatch import is_constant, untraced
from deformsample.geometry.gaussian import reflected_gaussian
from deformsample.geometry.grid import local_stretch
from deformsample.geometry.inverse import inverse_coordinates
from deformsample.geometry.warp import image_pyramid, warp_pyramid
from deformsample.kernels.compiled import in_bands
from deformsample.kernels.pixels import mark_boundaries


def softmax_density(logits: Tensor) -> Tensor:
    """Density logits (b, 1, h, w) to a density map, float32 or wider (Jin et al. 2022).

    Example:
        >>> softmax_density(torch.zeros(1, 1, 2, 2)).tolist()
        [[[[0.25, 0.25], [0.25, 0.25]]]]
    """
    # Densities and their gradients exceed the range of half precision.
    exact = torch.promote_types(logits.dtype, torch.float32)
    return logits.flatten(1).softmax(dim=1, dtype=exact).view_as(logits)


def uniform_density(size: Size, like: Tensor) -> Tensor:
    """The density map of uniform sampling, (b, 1, h, w), with batch and device of ``like``."""
    h, w = size
    return like.new_full((like.shape[0], 1, h, w), 1.0 / (h * w))


def label_boundaries(labels: Tensor, ignore_index: int) -> Tensor:
    """Mark both pixels of every horizontal or vertical pair whose labels differ.

    A pair with an ignored pixel is no boundary.

    Args:
        labels: class ids (b, h, w), an integer dtype.
        ignore_index: the id of pixels without a class.

    Returns:
        (b, 1, h, w) uint8, 1 on boundaries and 0 elsewhere.
    """
    _check_labels(labels)
    if is_constant(labels) and labels.dtype == torch.uint8:
        return _label_boundaries_compiled(labels, ignore_index)
    valid = labels != ignore_index
    edge = torch.zeros_like(valid)
    down = (labels[:, 1:] != labels[:, :-1]) & valid[:, 1:] & valid[:, :-1]
    right = (labels[:, :, 1:] != labels[:, :, :-1]) & valid[:, :, 1:] & valid[:, :, :-1]
    edge[:, 1:] |= down
    edge[:, :-1] |= down
    edge[:, :, 1:] |= right
    edge[:, :, :-1] |= right
    return edge.unsqueeze(1).to(torch.uint8)


@untraced
def _label_boundaries_compiled(labels: Tensor, ignore_index: int) -> Tensor:
    marks = torch.empty_like(labels)
    for single, written in zip(labels, marks, strict=True):
        mark = partial(mark_boundaries, single.numpy(), ignore_index, written.numpy())
        in_bands(len(single), single.numel(), mark, torch.get_num_threads())
    return marks.unsqueeze(1)


def boundary_density(
    labels: Tensor,
    size: Size,
    *,
    blur: float,
    floor: float,
    ignore_index: int,
    class_weights: Tensor | None = None,
) -> Tensor:
    """The density map that follows the boundaries of a label map.

    Boundaries are found at full resolution, and :func:`density_of` turns them into a density.

    Args:
        labels: class ids (b, H, W), an integer dtype.
        size: (h, w) of the density map.
        blur: standard deviation of the Gaussian blur, in map cells, positive.
        floor: density of a cell without boundaries, relative to the map's mean, in (0, 1].
        ignore_index: the id of pixels without a class.
        class_weights: (k,), weights of the boundary pixels by class; ``None`` for equal weights.

    Returns:
        Density map (b, 1, h, w), float32.

    Example:
        >>> labels = torch.zeros(1, 64, 96, dtype=torch.uint8)
        >>> labels[:, :, 48:] = 1
        >>> density = boundary_density(labels, (8, 12), blur=0.5, floor=0.03, ignore_index=255)
        >>> density.shape, bool(density[0, 0, 4, 5] > density[0, 0, 4, 0])
        (torch.Size([1, 1, 8, 12]), True)
    """
    edges = label_boundaries(labels, ignore_index)
    if class_weights is not None:
        table = torch.zeros(256, device=labels.device)
        table[: len(class_weights)] = class_weights
        edges = edges * table[labels.long()].unsqueeze(1)
    return density_of(edges, size, blur=blur, floor=floor)


def density_of(amounts: Tensor, size: Size, *, blur: float, floor: float) -> Tensor:
    """The density map proportional to amounts in the image.

    The amounts are averaged over each map cell, blurred, and mixed with a uniform density. All-zero
    amounts give the uniform density.

    Args:
        amounts: (b, 1, H, W), not negative, uint8 or a float dtype.
        size: (h, w) of the density map.
        blur: standard deviation of the Gaussian blur, in map cells, positive.
        floor: density of a cell with amount 0, relative to the map's mean, in (0, 1].

    Returns:
        Density map (b, 1, h, w), float32.

    Example:
        >>> amounts = torch.zeros(1, 1, 64, 96)
        >>> density_of(amounts, (2, 2), blur=0.5, floor=0.1).tolist()  # nothing anywhere: uniform
        [[[[0.25, 0.25], [0.25, 0.25]]]]
    """
    if not 0 < floor <= 1:
        raise ArgumentError(f"Expected `floor` in (0, 1], but got {floor}.")
    uniform = uniform_density(size, amounts.new_zeros(len(amounts), dtype=torch.float32))
    cells = warp_pyramid(image_pyramid(amounts), identity_grid(size, uniform), lod_bias=0.0)
    rows, columns = (reflected_gaussian(n, n, blur, like=cells).weights for n in size)
    blurred = rows @ cells @ columns.T
    total = blurred.sum(dim=(2, 3), keepdim=True)
    proportional = torch.where(total > 0, blurred / total.clamp_min(1e-12), uniform)
    return (1 - floor) * proportional + floor * uniform


def min_max(density: Tensor) -> Tensor:
    """Stretch each map (b, 1, h, w) to [0, 1]; a constant map becomes 0."""
    flat = density.flatten(1)
    low = flat.amin(dim=1).view(-1, 1, 1, 1)
    spread = flat.amax(dim=1).view(-1, 1, 1, 1) - low
    tiny = torch.finfo(density.dtype).tiny
    return torch.where(spread > 0, (density - low) / spread.clamp_min(tiny), 0.0)


def _check_labels(labels: Tensor) -> None:
    if labels.ndim != 3 or labels.is_floating_point():
        raise ArgumentError(
            "Expected `labels` of shape (b, h, w) and an integer dtype, but got "
            f"{tuple(labels.shape)} of {labels.dtype}."
        )


@torch.no_grad()
def grid_density(grid: Tensor, size: Size) -> Tensor:
    """The sampling density of a grid: samples per area at every cell of a map.

    Args:
        grid: (b, h, w, 2) that covers the image.
        size: (h', w') of the map.

    Returns:
        Density map (b, 1, h', w') with sum 1.

    Example:
        >>> from deformsample.geometry import transport_grid
        >>> density = torch.ones(1, 1, 16, 32)
        >>> density[..., 12:20] = 4.0
        >>> reached = grid_density(transport_grid(density, (64, 128)), (16, 32))
        >>> round(float(reached[0, 0, 8, 16] / reached[0, 0, 8, 2]), 1)
        3.9
    """
    height, width = size
    rows, columns = axis(height, grid), axis(width, grid)
    per_area = 1 / local_stretch(grid, size).square().clamp_min(1e-9).unsqueeze(1)
    coordinates = inverse_coordinates(grid, rows, columns)
    density = F.grid_sample(per_area, coordinates, padding_mode="border", align_corners=True)
    return density / density.sum(dim=(2, 3), keepdim=True)
