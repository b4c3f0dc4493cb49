"""Sampling an image that is never whole in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deformsample.conventions import Size
from deformsample.files.slides import LargeImage
from deformsample.geometry import local_stretch, to_pixels
from deformsample.geometry.coordinates import check_grid
from deformsample.geometry.warp import level_sizes
from deformsample.kernels.pixels import add_samples

ReadBlock: TypeAlias = Callable[[int, int, int, int, int], npt.NDArray[np.float32]]
"""Level, first and last row, first and last column, to (c, rows, columns)."""


class OutOfCoreImage:
    """One image in a file, of which only the parts that are needed are read.

    Samples are taken on the CPU.

    Args:
        file: open, and left open.
        device: of the rows.
    """

    count = 1

    def __init__(self, file: LargeImage, device: torch.device) -> None:
        self.file = file
        self.device = device

    @property
    def size(self) -> Size:
        """(H, W)."""
        return self.file.size

    def sample(self, grid: Tensor, lod_bias: float | None) -> Tensor:
        """Sample the image; see :class:`~deformsample.samplers.ImageSource`."""
        samples = warp_blocks(self.file.read, self.size, grid.cpu(), lod_bias)
        return (samples / 255).to(grid.device)

    def rows(self, top: int, bottom: int) -> Tensor:
        """Some rows; see :class:`~deformsample.samplers.ImageSource`."""
        rows = torch.from_numpy(self.file.read(0, top, bottom, 0, self.size[1]))
        return rows[None].to(self.device) / 255


def warp_blocks(
    read: ReadBlock, image_size: Size, grid: Tensor, lod_bias: float | None, side: int = 512
) -> Tensor:
    """Sample an image that is never whole in memory: :func:`warp_pyramid` of its parts.

    Args:
        read: gives a part of a pyramid level: its number, first and last row (exclusive), first
            and last column, to (c, rows, columns) float32. Level l has the size of the image
            over 2^l, rounded up.
        image_size: (H, W) of the image.
        grid: (1, h, w, 2), on the CPU.
        lod_bias: as of :func:`warp_pyramid`; ``None`` samples level 0, as :func:`warp`.
        side: of the parts, in pixels of their level.

    Returns:
        (1, c, h, w) float32.
    """
    check_grid(grid)
    places = grid[0].detach().double()
    if lod_bias is None:
        level = torch.zeros(grid.shape[1:3], dtype=torch.float64)
    else:
        stretch = local_stretch(places[None], image_size)[0]
        last = len(level_sizes(image_size)) - 1
        level = stretch.clamp_min(1.0).log2().add(lod_bias).clamp(0, last)
    centres = (to_pixels(places, image_size) + 0.5).flatten(0, 1)
    level = level.flatten()
    sampled: Tensor | None = None
    for number in range(int(level.min().floor()), int(level.max().ceil()) + 1):
        height, width = level_sizes(image_size)[number]
        own = ((level - number).abs() < 1).nonzero()[:, 0]
        last_pixel = torch.tensor([width - 1, height - 1])
        corner = (centres[own] / 2**number - 0.5).clamp_min(0).floor().long().minimum(last_pixel)
        part = corner // side
        keys = part[:, 1] * -(-width // side) + part[:, 0]
        for key in keys.unique().tolist():
            chosen = own[keys == key]
            top, left = (side * int(n) for n in divmod(key, -(-width // side)))
            bottom, right = min(top + side + 1, height), min(left + side + 1, width)
            block = read(number, top, bottom, left, right)
            if sampled is None:
                sampled = torch.zeros(len(block), len(level))
            local = (centres[chosen] - torch.tensor([left, top]) * 2**number).float()[None].numpy()
            levels = level[chosen].float()[None].numpy()
            sums = np.zeros((len(block), 1, len(chosen)), np.float32)
            add_samples(block, number, local, levels, sums, 0, 1)
            sampled[:, chosen] += torch.from_numpy(sums[:, 0])
    assert sampled is not None
    return sampled.view(1, -1, *grid.shape[1:3])
