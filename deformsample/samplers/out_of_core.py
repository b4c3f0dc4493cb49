"""Out-of-core sampling of images."""

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
    """One image in a file, of which only the required blocks are read.

    Sampling runs on the CPU.

    Args:
        file: open file; it is not closed.
        device: device of the rows.
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
        """Rows of the image; see :class:`~deformsample.samplers.ImageSource`."""
        rows = torch.from_numpy(self.file.read(0, top, bottom, 0, self.size[1]))
        return rows[None].to(self.device) / 255


def warp_blocks(
    read: ReadBlock, image_size: Size, grid: Tensor, lod_bias: float | None, side: int = 512
) -> Tensor:
    """Out-of-core :func:`warp_pyramid`.

    Args:
        read: reads a block of a pyramid level: from level, first and last row (exclusive), first
            and last column to (c, rows, columns) float32. Level l has the size of the image divided
            by 2^l, rounded up.
        image_size: (H, W) of the image.
        grid: (1, h, w, 2), on the CPU.
        lod_bias: as in :func:`warp_pyramid`; ``None`` samples level 0, as in :func:`warp`.
        side: side of the blocks, in pixels of their level.

    Returns:
        (1, c, h, w) float32.
    """
    check_grid(grid)
    points = grid[0].detach().double()
    if lod_bias is None:
        level = torch.zeros(grid.shape[1:3], dtype=torch.float64)
    else:
        stretch = local_stretch(points[None], image_size)[0]
        last = len(level_sizes(image_size)) - 1
        level = stretch.clamp_min(1.0).log2().add(lod_bias).clamp(0, last)
    centres = (to_pixels(points, image_size) + 0.5).flatten(0, 1)
    level = level.flatten()
    sampled: Tensor | None = None
    for index in range(int(level.min().floor()), int(level.max().ceil()) + 1):
        height, width = level_sizes(image_size)[index]
        used = ((level - index).abs() < 1).nonzero()[:, 0]
        last_pixel = torch.tensor([width - 1, height - 1])
        corner = (centres[used] / 2**index - 0.5).clamp_min(0).floor().long().minimum(last_pixel)
        column, row = (corner // side).unbind(1)
        key, order = (row * -(-width // side) + column).sort()
        used = used[order]  # the samples of a block follow each other
        blocks, counts = key.unique_consecutive(return_counts=True)
        parts = (t.split(counts.tolist()) for t in (centres[used], level[used].float()))
        sums = []
        for block, points_of_block, levels in zip(blocks.tolist(), *parts, strict=True):
            top, left = (side * int(n) for n in divmod(block, -(-width // side)))
            bottom, right = min(top + side + 1, height), min(left + side + 1, width)
            pixels = read(index, top, bottom, left, right)
            local = (points_of_block - torch.tensor([left, top]) * 2**index).float()[None].numpy()
            sums.append(np.zeros((len(pixels), 1, len(levels)), np.float32))
            add_samples(pixels, index, local, levels[None].numpy(), sums[-1], 0, 1)
        if sums:
            totals = torch.from_numpy(np.concatenate(sums, axis=2)[:, 0])
            if sampled is None:
                sampled = torch.zeros(len(totals), len(level))
            sampled[:, used] += totals
    assert sampled is not None
    return sampled.view(1, -1, *grid.shape[1:3])
