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
from deformsample.geometry.coordinates import check_grid, to_pixels
from deformsample.geometry.dispatch import is_constant, untraced
from deformsample.geometry.grid import local_stretch
from deformsample.kernels.compiled import in_bands
from deformsample.kernels.pixels import add_samples
from deformsample.kernels.pixels import halve as halve_pixels

_COMPILED = (torch.uint8, torch.float32)
_BLOCK_ROWS = 64  # even, so that no pair of rows is parted


def warp(image: Tensor, grid: Tensor) -> Tensor:
    """Sample an image by bilinear interpolation.

    Args:
        image: (b, c, H, W), uint8 or a float dtype.
        grid: (b, h, w, 2). Points outside [-1, 1] see the border pixel.

    Returns:
        (b, c, h, w), float32 for a uint8 image; differentiable in both arguments.
    """
    _check_image(image, grid)
    image = _float(image)
    # Half precision is enough for colours, but not for places: it cannot count pixels.
    exact = torch.promote_types(image.dtype, torch.float32)
    sampled = F.grid_sample(
        image.to(exact), grid.to(exact), padding_mode="border", align_corners=True
    )
    return sampled.to(image.dtype)


def warp_labels(labels: Tensor, grid: Tensor) -> Tensor:
    """Sample class ids at the nearest pixel: ids are names, and no two may be mixed.

    Args:
        labels: (b, H, W), an integer dtype.
        grid: (b, h, w, 2).

    Returns:
        (b, h, w), the dtype of ``labels``.
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
    """Halve an image again and again by averaging 2 x 2 pixels.

    Pixel i of level l averages the pixels 2^l i to 2^l (i + 1) - 1 of each side; where the side
    ends before, it averages those that exist.

    Args:
        image: (b, c, H, W), uint8 or a float dtype.
        smallest: (h, w); the last level is the last one with no side below these.

    Returns:
        The levels: the image itself first, as it is; the others are float32 for a uint8 image, with
        values from 0 to 255.
    """
    levels = [image]
    while (
        _halved(levels[-1].shape[2]) >= smallest[0] and _halved(levels[-1].shape[3]) >= smallest[1]
    ):
        levels.append(halve(levels[-1]))
    return levels


def halve(image: Tensor) -> Tensor:
    """The next level of :func:`image_pyramid`; a side of one pixel stays."""
    if is_constant(image) and image.dtype in _COMPILED:
        return _halve_compiled(image)
    # In blocks of rows that stay in a processor's cache: the full image never exists in float.
    # Sums of slices are several times faster than avg_pool2d on a CPU. A graph shall not grow.
    blocks = (image,) if torch.compiler.is_compiling() else image.split(_BLOCK_ROWS, dim=2)
    return torch.cat([_pair_means(_pair_means(_float(b), dim=2), dim=3) for b in blocks], dim=2)


@untraced
def _halve_compiled(image: Tensor) -> Tensor:
    halved = [halve_pixels(pixels, torch.get_num_threads()) for pixels in image.numpy()]
    return torch.from_numpy(halved[0][None] if len(halved) == 1 else np.stack(halved))


def _pair_means(values: Tensor, dim: int) -> Tensor:
    """The means of neighbours, two by two; a last value without a partner stays."""
    first, second = (_every_other(values, dim, start) for start in (0, 1))
    if values.shape[dim] % 2:
        second = torch.cat((second, values.narrow(dim, -1, 1)), dim)
    return (first + second) * 0.5


def _every_other(values: Tensor, dim: int, start: int) -> Tensor:
    index = [slice(None)] * values.ndim
    index[dim] = slice(start, None, 2)
    return values[tuple(index)]


def _float(image: Tensor) -> Tensor:
    return image if image.is_floating_point() else image.float()


def _halved(side: int) -> int:
    return (side + 1) // 2 if side > 1 else 0


def warp_pyramid(pyramid: Sequence[Tensor], grid: Tensor, lod_bias: float) -> Tensor:
    """Sample an image from its pyramid, at the level that fits the local stretch of the grid.

    A sample that stands for s x s pixels sees the mean of about that many, so that nothing small
    is skipped or aliased (trilinear filtering, Williams 1983). The choice of the level carries no
    gradient; the samples do, as differences at the sample's own scale.

    Args:
        pyramid: levels (b, c, H / 2^l, W / 2^l), as :func:`image_pyramid` makes them.
        grid: (b, h, w, 2).
        lod_bias: added to the level that the stretch asks for. 0 averages fully, -1 averages
            half as many pixels per side.

    Returns:
        (b, c, h, w).
    """
    image = pyramid[0]
    _check_image(image, grid)
    dtype = image.dtype if image.is_floating_point() else torch.float32
    size = (image.shape[2], image.shape[3])
    with torch.no_grad():
        stretch = local_stretch(grid.to(torch.promote_types(grid.dtype, torch.float32)), size)
        level = stretch.clamp_min(1.0).log2().add(lod_bias).clamp(0, len(pyramid) - 1)
    levels = _asked_for(level, len(pyramid))
    centres = to_pixels(grid.to(level.dtype), size) + 0.5
    if is_constant(*pyramid, centres) and dtype == torch.float32:
        return _sampled_compiled(pyramid, centres, level, levels)
    sampled = torch.zeros((), device=image.device)
    for number in levels:
        share = (1 - (level - number).abs()).clamp_min(0).unsqueeze(1)
        values = _sample_level(_float(pyramid[number]), centres, number)
        sampled = sampled + share.to(values.dtype) * values
    return sampled.to(dtype)


def _asked_for(level: Tensor, count: int) -> range:
    """The levels, of ``count``, that samples lie at or between."""
    if torch.compiler.is_compiling():  # a graph is the same for all images
        return range(count)
    return range(int(level.min().floor()), int(level.max().ceil()) + 1)


@untraced
def _sampled_compiled(
    pyramid: Sequence[Tensor], centres: Tensor, level: Tensor, levels: range
) -> Tensor:
    """The sum of the levels' bilinear values; a level is read only where it counts."""
    b, h, w = level.shape
    sampled = torch.zeros(b, pyramid[0].shape[1], h, w)
    level, centres = level.float(), centres.float().contiguous()
    for image, sums in enumerate(sampled.numpy()):
        places = centres[image].numpy(), level[image].contiguous().numpy()
        for number in levels:
            add = partial(add_samples, pyramid[number][image].numpy(), number, *places, sums)
            in_bands(h, sums.size, add, torch.get_num_threads())
    return sampled


def level_sizes(size: Size) -> list[Size]:
    """The sizes of the levels of an image pyramid, as :func:`image_pyramid` makes them."""
    sizes = [size]
    while min(_halved(side) for side in sizes[-1]) >= 2:
        sizes.append((_halved(sizes[-1][0]), _halved(sizes[-1][1])))
    return sizes


def _sample_level(pixels: Tensor, centres: Tensor, number: int) -> Tensor:
    """Bilinear values at points given as image pixels counted from the image's outer edge."""
    h, w = pixels.shape[2:]
    # Only a level's outer edge lies where the image's does; its pixel centres do not. This is the
    # other convention of grid_sample, hence the one place with align_corners=False.
    side = centres.new_tensor([w, h]) * 2**number
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
