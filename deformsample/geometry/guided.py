"""Guided unwarping: label boundaries that follow the colours of the full image.

Between samples, :mod:`.unwarp` interpolates logits without the image. Near predicted boundaries,
guided unwarping adds what the colours say. In a window about each sample, the logits are regressed
on the colours of the samples, as in the guided filter (He, Sun and Tang 2013, "Guided Image
Filtering", eq. 5 and 6). The slopes are averaged over the window and interpolated at the pixels (He
and Sun 2015, "Fast Guided Filter"). Unlike the filter, a sample keeps its own logits at its own
colour, so that an image without colour differences has the labels of :func:`.unwarp_labels`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.geometry.coordinates import check_grid, check_size
from deformsample.geometry.dispatch import untraced
from deformsample.geometry.mesh import Mesh, triangulate
from deformsample.geometry.unwarp import corner_shares, corner_sum, mesh_blocks
from deformsample.kernels.checks import check_class_count, check_values_shape
from deformsample.kernels.interpolation import guided_labels_at, pixel_axes

_RADIUS = 2  # of the windows, in logits
_RIDGE = 1e-3  # colour variance of a flat window: the noise of an image is about 0.03 per channel
_REACH = 1  # cells beside a boundary that are decided by colour


class _Guided(NamedTuple):
    mesh: Mesh
    coefficients: Tensor
    """(b, h * w, k, 4): logits as affine functions of the colour in [0, 1]."""
    winners: Tensor
    """(b, h * w), the class of each sample."""
    near: Tensor
    """(b, (h - 1) * (w - 1)), the cells near a boundary."""


@untraced
@torch.no_grad()
def guided_labels(logits: Tensor, grid: Tensor, small: Tensor, image: Tensor) -> Tensor:
    """The class of every pixel of the image, with boundaries that follow its colours.

    Only pixels in the cells of the grid beside a predicted boundary, and in the cells next to
    these, can differ from :func:`unwarp_labels`.

    Args:
        logits: (b, k, h, w), a float dtype, k at most 254.
        grid: (b, h, w, 2), a mesh that covers the image.
        small: (b, 3, h', w') in [0, 1], the sampled image, interpolated to the size of the logits.
        image: (b, 3, H, W), uint8, or float in [0, 1].

    Returns:
        (b, H, W) uint8.

    Raises:
        ArgumentError: wrong shapes or dtypes, too many classes, or a grid that leaves part of the
            image uncovered.

    Example:
        >>> image = torch.zeros(1, 3, 2, 7)
        >>> image[..., 2:] = 1
        >>> grid = torch.tensor([[[[-1.0, -1.0], [1.0, -1.0]], [[-1.0, 1.0], [1.0, 1.0]]]])
        >>> logits = torch.tensor([[[[1.0, -1.0], [1.0, -1.0]], [[-1.0, 1.0], [-1.0, 1.0]]]])
        >>> guided_labels(logits, grid, image[..., [0, 6]], image).tolist()
        [[[0, 0, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 1, 1]]]
    """
    guided = _prepared(logits, grid, small)
    _check_image(image, len(logits))
    size = (image.shape[2], image.shape[3])
    check_size(size, "image size")
    if logits.device.type == "cpu":
        return _compiled(guided, image, size, 0)
    return _labels(guided, image, size)


@torch.no_grad()
def guided_label_bands(
    logits: Tensor,
    grid: Tensor,
    small: Tensor,
    read_rows: Callable[[int, int], Tensor],
    size: Size,
    rows: int,
) -> Iterator[Tensor]:
    """The labels of :func:`guided_labels` in bands from top to bottom.

    Args:
        logits: (1, k, h, w), on the CPU.
        grid: (1, h, w, 2).
        small: (1, 3, h', w') in [0, 1].
        read_rows: from first and last row (exclusive) to these rows of the image, (1, 3, n, W).
        size: (H, W) of the image.
        rows: rows of a band.

    Yields:
        (rows, W) uint8; the last band may have fewer rows.
    """
    guided = _prepared(logits, grid, small)
    check_size(size, "size")
    for first in range(0, size[0], rows):
        band = read_rows(first, min(first + rows, size[0])).cpu()
        _check_image(band, 1)
        yield _compiled(guided, band, size, first)[0]


def _prepared(logits: Tensor, grid: Tensor, small: Tensor) -> _Guided:
    check_grid(grid)
    check_values_shape(logits.shape, grid.shape)
    check_class_count(logits.shape[1])
    if small.ndim != 4 or small.shape[:2] != (len(logits), 3):
        raise ArgumentError(
            f"Expected `small` of shape ({len(logits)}, 3, h, w), but got {tuple(small.shape)}."
        )
    logits = logits.float()
    colours = F.interpolate(small.float(), logits.shape[2:], mode="bilinear", align_corners=True)
    winners = logits.argmax(dim=1)
    coefficients = _affine_functions(logits, colours).flatten(3).permute(0, 3, 1, 2)
    return _Guided(
        triangulate(grid),
        coefficients.contiguous(),
        winners.flatten(1).to(torch.uint8),
        _near_boundaries(winners).flatten(1),
    )


def _affine_functions(logits: Tensor, colours: Tensor) -> Tensor:
    """The logits at the samples as affine functions of the colour.

    Args:
        logits: (b, k, h, w).
        colours: (b, 3, h, w).

    Returns:
        (b, k, 4, h, w): red, green, blue, constant.
    """
    # Centred: variances of small numbers lose fewer digits.
    x = colours - colours.mean(dim=(2, 3), keepdim=True)
    y = logits - logits.mean(dim=(2, 3), keepdim=True)
    xx = (x[:, :, None] * x[:, None]).flatten(1, 2)
    yx = (y[:, :, None] * x[:, None]).flatten(1, 2)
    parts = [part.shape[1] for part in (x, y, xx, yx)]
    x, y, xx, yx = _window_mean(torch.cat((x, y, xx, yx), dim=1)).split(parts, dim=1)
    variance = xx.unflatten(1, (3, 3)) - x[:, :, None] * x[:, None]
    covariance = yx.unflatten(1, (-1, 3)) - y[:, :, None] * x[:, None]
    slopes = (covariance[:, :, :, None] * _inverse_of_symmetric(variance)[:, None]).sum(dim=2)
    slopes = _window_mean(slopes.flatten(1, 2)).unflatten(1, (-1, 3))
    constant = logits - (slopes * colours[:, None]).sum(dim=2)
    return torch.cat((slopes, constant[:, :, None]), dim=2)


def _inverse_of_symmetric(matrix: Tensor) -> Tensor:
    """The inverse of matrices (b, 3, 3, h, w) + ridge, by cross products of their rows."""
    eye = torch.eye(3, device=matrix.device).view(1, 3, 3, 1, 1)
    first, second, third = (matrix + _RIDGE * eye).unbind(dim=1)
    rows = [
        torch.linalg.cross(one, other, dim=1)
        for one, other in ((second, third), (third, first), (first, second))
    ]
    determinant = (first * rows[0]).sum(dim=1)
    inverse: Tensor = torch.stack(rows, dim=1) / determinant[:, None, None]
    return inverse


def _window_mean(values: Tensor) -> Tensor:
    """The mean over the window about each sample of (b, c, h, w); border samples are repeated."""
    h, w = values.shape[2:]
    side = 2 * _RADIUS + 1
    padded = F.pad(values, (_RADIUS,) * 4, mode="replicate")
    rows = torch.stack([padded[:, :, i : i + h] for i in range(side)]).sum(dim=0)
    total = torch.stack([rows[..., j : j + w] for j in range(side)]).sum(dim=0)
    return total / side**2


def _near_boundaries(winners: Tensor) -> Tensor:
    """The cells (b, h - 1, w - 1) with samples of several classes, and those within the reach."""
    classes = winners[:, None].float()
    differs = F.max_pool2d(classes, 2, 1) != -F.max_pool2d(-classes, 2, 1)
    return F.max_pool2d(differs.float(), 2 * _REACH + 1, 1, _REACH)[:, 0] > 0


def _compiled(guided: _Guided, image: Tensor, size: Size, top: int) -> Tensor:
    """The labels (b, n, W) of the rows (b, 3, n, W) of an image that begin at ``top``."""
    rows, columns = pixel_axes(size)
    if image.dtype != torch.uint8:
        image = image.float()
    labels = guided_labels_at(
        guided.mesh.vertices.numpy(),
        _functions_of(image, guided.coefficients).numpy(),
        guided.winners.numpy(),
        guided.near.numpy(),
        image.contiguous().numpy(),
        rows[top : top + image.shape[2]],
        columns,
        torch.get_num_threads(),
    )
    return torch.from_numpy(labels)


def _labels(guided: _Guided, image: Tensor, size: Size) -> Tensor:
    mesh, table = guided.mesh, _functions_of(image, guided.coefficients).flatten(2)
    corners = mesh.corners
    index = torch.arange(len(table), device=table.device).view(-1, 1, 1)
    blocks: list[Tensor] = []
    top = 0
    for located in mesh_blocks(mesh, size, table.shape[2]):
        labels = guided.winners[index, corners[located.triangle, 0]]
        where = guided.near[index, located.triangle // 2].nonzero(as_tuple=True)
        indices = corners[located.triangle[where]]
        shares = corner_shares(located.weights[where]).to(table.dtype)
        functions = corner_sum(table, where[0], indices, shares).unflatten(1, (-1, 4))
        colours = image[where[0], :, top + where[1], where[2]].to(table.dtype)
        logits = (functions[..., :3] * colours[:, None]).sum(dim=2) + functions[..., 3]
        labels[where] = logits.argmax(dim=1).to(torch.uint8)
        blocks.append(labels)
        top += labels.shape[1]
    return torch.cat(blocks, dim=1)


def _functions_of(image: Tensor, coefficients: Tensor) -> Tensor:
    """The coefficients of affine functions of the colour, in the unit of an image."""
    if image.dtype != torch.uint8:
        return coefficients
    return coefficients * torch.tensor([1 / 255, 1 / 255, 1 / 255, 1.0], device=image.device)


def _check_image(image: Tensor, count: int) -> None:
    if image.ndim != 4 or image.shape[:2] != (count, 3):
        raise ArgumentError(
            f"Expected `image` of shape ({count}, 3, h, w), but got {tuple(image.shape)}."
        )
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise ArgumentError(
            f"Expected `image` of uint8, or float in [0, 1], but got {image.dtype}."
        )
