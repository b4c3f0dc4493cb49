"""Sampling an image, or its labels, at the points of a grid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.geometry.coordinates import check_grid, constants, to_pixels
from deformsample.geometry.dispatch import is_constant, is_readable, untraced
from deformsample.geometry.grid import local_stretch
from deformsample.kernels.compiled import in_bands
from deformsample.kernels.pixels import add_samples
from deformsample.kernels.pixels import halve as halve_pixels

_COMPILED = (torch.uint8, torch.float32)


def warp(image: Tensor, grid: Tensor) -> Tensor:
    """Sample an image by bilinear interpolation.

    Args:
        image: (b, c, H, W), uint8 or a float dtype.
        grid: (b, h, w, 2). Points outside [-1, 1] take the border pixel.

    Returns:
        (b, c, h, w), float32 for a uint8 image; differentiable in both arguments.

    Example:
        >>> image = torch.arange(12.0).view(1, 1, 3, 4)
        >>> corners = torch.tensor([[[[-1.0, -1.0], [1.0, -1.0]], [[-1.0, 1.0], [1.0, 1.0]]]])
        >>> warp(image, corners).tolist()
        [[[[0.0, 3.0], [8.0, 11.0]]]]
    """
    _check_image(image, grid)
    image = _float(image)
    # Half precision is enough for colours, but not for coordinates.
    exact = torch.promote_types(image.dtype, torch.float32)
    sampled = F.grid_sample(
        image.to(exact), grid.to(exact), padding_mode="border", align_corners=True
    )
    return sampled.to(image.dtype)


def warp_labels(labels: Tensor, grid: Tensor) -> Tensor:
    """Sample class ids at the nearest pixel.

    Args:
        labels: (b, H, W), an integer dtype.
        grid: (b, h, w, 2).

    Returns:
        (b, h, w), the dtype of ``labels``.

    Example:
        >>> labels = torch.tensor([[[0, 1, 1, 255], [2, 2, 2, 2]]])
        >>> grid = torch.tensor([[[[-0.9, -1.0], [0.9, -1.0]], [[-0.9, 0.9], [0.9, 0.9]]]])
        >>> warp_labels(labels, grid).tolist()
        [[[0, 255], [2, 2]]]
    """
    check_grid(grid)
    if labels.ndim != 3 or labels.shape[0] != grid.shape[0]:
        raise ArgumentError(
            f"Expected `labels` of shape ({grid.shape[0]}, H, W) for a grid of "
            f"{tuple(grid.shape)}, but got {tuple(labels.shape)}."
        )
    h, w = labels.shape[1:]
    points = to_pixels(grid, (h, w)).round().long()
    index = points[..., 1].clamp(0, h - 1) * w + points[..., 0].clamp(0, w - 1)
    return labels.flatten(1).gather(1, index.flatten(1)).view(index.shape)


def image_pyramid(image: Tensor, smallest: Size = (2, 2)) -> list[Tensor]:
    """Halve an image repeatedly by averaging 2 x 2 pixels.

    Pixel i of level l averages the existing pixels from 2^l i to 2^l (i + 1) - 1 of each side.

    Args:
        image: (b, c, H, W), uint8 or a float dtype.
        smallest: (h, w), the minimum size of a level.

    Returns:
        The levels, starting with the unchanged image; further levels of a uint8 image are float32
        in [0, 255].

    Example:
        >>> [tuple(level.shape[2:]) for level in image_pyramid(torch.zeros(1, 3, 100, 200))]
        [(100, 200), (50, 100), (25, 50), (13, 25), (7, 13), (4, 7), (2, 4)]
    """
    levels = [image]
    while (
        _halved(levels[-1].shape[2]) >= smallest[0] and _halved(levels[-1].shape[3]) >= smallest[1]
    ):
        levels.append(halve(levels[-1]))
    return levels


def halve(image: Tensor) -> Tensor:
    """The next level of :func:`image_pyramid`; a side of one pixel is kept."""
    if is_constant(image) and image.dtype in _COMPILED:
        return _halve_compiled(image)
    return F.avg_pool2d(_float(image), 2, ceil_mode=True, count_include_pad=False)


@untraced
def _halve_compiled(image: Tensor) -> Tensor:
    halved = [halve_pixels(pixels, torch.get_num_threads()) for pixels in image.numpy()]
    return torch.from_numpy(halved[0][None] if len(halved) == 1 else np.stack(halved))


def _float(image: Tensor) -> Tensor:
    return image if image.is_floating_point() else image.float()


def _halved(side: int) -> int:
    return (side + 1) // 2 if side > 1 else 0


def warp_pyramid(pyramid: Sequence[Tensor], grid: Tensor, lod_bias: float) -> Tensor:
    """Sample an image pyramid at the level of the local stretch of the grid.

    A sample that represents s x s pixels is the mean of about as many, which avoids aliasing
    (trilinear filtering, Williams 1983). The level carries no gradient; the samples do, as
    differences at their own scale.

    Args:
        pyramid: levels (b, c, H / 2^l, W / 2^l) of :func:`image_pyramid`.
        grid: (b, h, w, 2).
        lod_bias: added to the level of the stretch. 0 averages all pixels of a sample, -1 half as
            many per side.

    Returns:
        (b, c, h, w).

    Example:
        >>> image = torch.rand(1, 3, 64, 128)
        >>> grid = torch.tensor([[[[-1.0, -1.0], [1.0, -1.0]], [[-1.0, 1.0], [1.0, 1.0]]]])
        >>> warp_pyramid(image_pyramid(image), grid, lod_bias=-1.0).shape
        torch.Size([1, 3, 2, 2])
    """
    image = pyramid[0]
    _check_image(image, grid)
    dtype = image.dtype if image.is_floating_point() else torch.float32
    size = (image.shape[2], image.shape[3])
    with torch.no_grad():
        stretch = local_stretch(grid.to(torch.promote_types(grid.dtype, torch.float32)), size)
        level = stretch.clamp_min(1.0).log2().add(lod_bias).clamp(0, len(pyramid) - 1)
    levels = _used_levels(level, len(pyramid))
    centres = to_pixels(grid.to(level.dtype), size) + 0.5
    if is_constant(*pyramid, centres) and dtype == torch.float32:
        return _sampled_compiled(pyramid, centres, level, levels)
    sampled = torch.zeros((), device=image.device)
    for index in levels:
        share = (1 - (level - index).abs()).clamp_min(0).unsqueeze(1)
        values = _sample_level(_float(pyramid[index]), centres, index)
        sampled = sampled + share.to(values.dtype) * values
    return sampled.to(dtype)


def _used_levels(level: Tensor, count: int) -> range:
    """The levels, of ``count``, at or between which samples lie."""
    if not is_readable(level):
        return range(count)
    return range(int(level.min().floor()), int(level.max().ceil()) + 1)


@untraced
def _sampled_compiled(
    pyramid: Sequence[Tensor], centres: Tensor, level: Tensor, levels: range
) -> Tensor:
    """The weighted sum of the bilinear values of the levels."""
    b, h, w = level.shape
    sampled = torch.zeros(b, pyramid[0].shape[1], h, w)
    level, centres = level.float(), centres.float().contiguous()
    for image, sums in enumerate(sampled.numpy()):
        points = centres[image].numpy(), level[image].contiguous().numpy()
        for index in levels:
            add = partial(add_samples, pyramid[index][image].numpy(), index, *points, sums)
            in_bands(h, sums.size, add, torch.get_num_threads())
    return sampled


def level_sizes(size: Size) -> list[Size]:
    """The sizes of the levels of :func:`image_pyramid`."""
    sizes = [size]
    while min(_halved(side) for side in sizes[-1]) >= 2:
        sizes.append((_halved(sizes[-1][0]), _halved(sizes[-1][1])))
    return sizes


def _sample_level(pixels: Tensor, centres: Tensor, index: int) -> Tensor:
    """Bilinear values at points in image pixels from the outer edge of the image."""
    h, w = pixels.shape[2:]
    # Levels share the outer edge of the image but not the pixel centres, hence the only use of
    # align_corners=False.
    side = constants(centres, w, h) * 2**index
    exact = torch.promote_types(pixels.dtype, torch.float32)
    points = (centres / side * 2 - 1).to(exact)
    return F.grid_sample(pixels.to(exact), points, padding_mode="border", align_corners=False)


def _check_image(image: Tensor, grid: Tensor) -> None:
    check_grid(grid)
    if image.ndim != 4 or image.shape[0] != grid.shape[0]:
        raise ArgumentError(
            f"Expected `image` of shape ({grid.shape[0]}, c, H, W) for a grid of "
            f"{tuple(grid.shape)}, but got {tuple(image.shape)}."
        )
    if not image.is_floating_point() and image.dtype != torch.uint8:
        raise ArgumentError(f"Expected `image` of uint8 or a float dtype, but got {image.dtype}.")
