"""Bringing an image to few, well-placed samples: everything that comes before the network."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.autograd.profiler import record_function

from deformsample.conventions import Size
from deformsample.errors import ArgumentError, SamplingError
from deformsample.geometry import ErrorCurves, identity_grid, image_pyramid, warp, warp_pyramid
from deformsample.samplers import OracleSampler, Placement, Sampler
from deformsample.samplers.image_source import white
from deformsample.samplers.normalize import Normalising

Warp: TypeAlias = Callable[[Tensor, "float | None"], Tensor]
"""From a grid (b, h, w, 2) and a level bias to samples (b, 3, h, w) in [0, 1]."""


class Downsampled(NamedTuple):
    """An image brought to its sampled size (h, w)."""

    image: Tensor
    """The small image (b, 3, h, w), values as in the original in [0, 1]."""

    grid: Tensor
    """Where its samples come from, (b, h, w, 2)."""

    density: Tensor
    """The density map (b, 1, h', w') of the thumbnail's size, with sum 1."""

    curves: ErrorCurves | None = None
    """The error curves that the density follows from, where the sampler predicts them."""


class Downsampler(Normalising):
    """Sample an image through a grid that a sampler places by a thumbnail.

    Args:
        sampler: decides where the samples go.
        sampled_size: (height, width) of the small image, or a budget: how many pixels it may have
            at most, in the aspect of each image.
        thumbnail_scale: how many samples of the thumbnail, per side, go from one sample of a
            uniform small image to the next. The density map is of its size.
        level_bias: how many levels of the image pyramid sharper than the local stretch asks for; 0
            averages over each sample's whole area. ``None`` samples the image itself, bilinearly,
            without antialiasing.
        sample_gradient: let the loss move the samples by the differences of the image around them;
            without it, the grid learns only from what the loss says of the grid itself.
    """

    def __init__(
        self,
        sampler: Sampler,
        sampled_size: tuple[int, int] | int = (64, 128),
        thumbnail_scale: float = 1.0,
        level_bias: float | None = 1.0,
        sample_gradient: bool = True,  # noqa: FBT001, FBT002 - always given by name, from a config
    ) -> None:
        super().__init__()
        smallest = sampled_size if isinstance(sampled_size, int) else min(sampled_size)
        if smallest < 2:
            raise ArgumentError(
                "Expected `sampled_size` to be (height, width) with at least 2 per side, or a "
                f"number of pixels, but got {sampled_size}."
            )
        if not thumbnail_scale > 0:
            raise ArgumentError(f"Expected `thumbnail_scale` above 0, but got {thumbnail_scale}.")
        self.sampler = sampler
        self.sampled_size = sampled_size
        self.thumbnail_scale = thumbnail_scale
        self.level_bias = level_bias
        self.sample_gradient = sample_gradient

    def downsample(self, image: Tensor, labels: Tensor | None = None) -> Downsampled:
        """Sample an image.

        Args:
            image: (b, 3, H, W), uint8, or float in [0, 1].
            labels: (b, H, W) true class ids, which only an
                :class:`~deformsample.samplers.OracleSampler` looks at.
        """
        full = white(image)  # dividing the few samples is cheaper than dividing the whole image
        pyramid: list[Tensor] = []  # made when the first sample is taken

        def sampled(grid: Tensor, level_bias: float | None) -> Tensor:
            if level_bias is None:
                return warp(image, grid) / full
            if not pyramid:
                pyramid.extend(image_pyramid(image))
            return warp_pyramid(pyramid, grid, level_bias) / full

        height, width = image.shape[2:]
        return self.downsample_by(sampled, (height, width), len(image), labels)

    def downsample_by(
        self,
        sampled: Warp,
        image_size: Size,
        count: int = 1,
        labels: Tensor | None = None,
    ) -> Downsampled:
        """Sample images that only a function sees, such as parts of a file.

        Args:
            sampled: takes a grid (b, h, w, 2) and a level bias as of this class, and gives the
                samples (b, 3, h, w) in [0, 1].
            image_size: (H, W) of the images.
            count: how many images there are.
            labels: as of :meth:`downsample`.
        """
        size = sampled_size(image_size, self.sampled_size)
        uniform = identity_grid(
            _scaled(size, self.thumbnail_scale), self.mean.expand(count, -1, -1, -1)
        )
        with record_function("thumbnail"):
            thumbnail = sampled(uniform, None if self.level_bias is None else 0.0)
        with record_function("density"):
            density, grid, curves = self._place(thumbnail, size, labels)
        with record_function("warp"):
            small = sampled(grid if self.sample_gradient else grid.detach(), self.level_bias)
        return Downsampled(small, grid, density, curves)

    def _place(self, thumbnail: Tensor, size: Size, labels: Tensor | None) -> Placement:
        if isinstance(self.sampler, OracleSampler) and labels is not None:
            map_size = (thumbnail.shape[2], thumbnail.shape[3])
            return self.sampler.from_labels(labels, map_size, size)
        placement: Placement = self.sampler(self._normalised(thumbnail), size)
        if not torch.compiler.is_compiling() and not bool(placement.grid.isfinite().all()):
            raise SamplingError(
                f"Expected the places of samples, but {type(self.sampler).__name__} gives numbers "
                "that are not finite: its weights are none either (take an earlier checkpoint, and "
                "a lower learning rate), or the precision is too low for it."
            )
        return placement


def sampled_size(image_size: Size, wanted: tuple[int, int] | int) -> Size:
    """The size (h, w) to sample an image of ``image_size`` at.

    Args:
        image_size: (H, W) of the image.
        wanted: a size, which is returned, or a budget in pixels: then the result has at most that
            many, in the image's aspect.
    """
    if not isinstance(wanted, int):
        height, width = wanted
        return height, width
    scale = math.sqrt(wanted / (image_size[0] * image_size[1]))
    height = max(2, round(image_size[0] * scale))
    width = max(2, min(round(image_size[1] * scale), wanted // height))
    return height, width


def _scaled(size: Size, scale: float) -> Size:
    """So that a whole scale, or one over it, puts samples on samples."""
    return max(2, round((size[0] - 1) * scale) + 1), max(2, round((size[1] - 1) * scale) + 1)
