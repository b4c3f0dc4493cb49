"""Downsampling: all steps before the network."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor, nn
from torch.autograd.profiler import record_function

from deformsample.conventions import Size
from deformsample.errors import ArgumentError, SamplingError
from deformsample.geometry import ErrorCurves, identity_grid
from deformsample.geometry.dispatch import is_readable
from deformsample.samplers.focus import Focus
from deformsample.samplers.image_source import ImageSource, InMemoryImage
from deformsample.samplers.normalize import Normalize
from deformsample.samplers.sampler import Placement, Sampler


class Downsampled(NamedTuple):
    """A downsampled image."""

    image: Tensor
    """The small image (b, 3, h, w) in [0, 1]."""

    grid: Tensor
    """The sampling locations (b, h, w, 2)."""

    density: Tensor
    """The density map (b, 1, h', w') of the size of the thumbnail, with sum 1."""

    curves: ErrorCurves | None = None
    """The error curves of a sampler that predicts them."""

    first_logits: Tensor | None = None
    """The logits (b, k, h', w') of the thumbnail, of a two-pass segmenter."""


class Downsampler(nn.Module):
    """Sample an image at the locations that a sampler predicts from a thumbnail.

    Args:
        sampler: predicts the sampling locations.
        sampled_size: (height, width) of the small image, or the maximum number of its pixels, in
            the aspect of each image.
        thumbnail_scale: size of the thumbnail and the density map relative to the small image, per
            side.
        lod_bias: added to the pyramid level of the local stretch of the grid, as in computer
            graphics: 0 averages over the whole area of each sample, -1 is one level sharper.
            ``None`` samples the image bilinearly, without antialiasing.
        sample_gradient: whether the gradient of the small image reaches the grid. Otherwise the
            grid learns only from losses of the grid and the density.

    Example:
        >>> import torch
        >>> from deformsample.samplers import DetailSampler
        >>> downsampler = Downsampler(DetailSampler(), sampled_size=(32, 48))
        >>> sampled = downsampler(torch.rand(1, 3, 256, 384))
        >>> sampled.image.shape, sampled.grid.shape
        (torch.Size([1, 3, 32, 48]), torch.Size([1, 32, 48, 2]))
    """

    def __init__(
        self,
        sampler: Sampler,
        sampled_size: tuple[int, int] | int = (64, 128),
        thumbnail_scale: float = 1.0,
        lod_bias: float | None = -1.0,
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
        self.normalize = Normalize()
        self.sampler = sampler
        self.sampled_size = sampled_size
        self.thumbnail_scale = thumbnail_scale
        self.lod_bias = lod_bias
        self.sample_gradient = sample_gradient

    def forward(
        self,
        image: Tensor | ImageSource,
        labels: Tensor | None = None,
        focus: Focus | None = None,
    ) -> Downsampled:
        """Sample an image.

        Args:
            image: (b, 3, H, W), uint8, or float in [0, 1]; or an image source.
            labels: (b, H, W) class ids, used only by oracles.
            focus: regions of all images with a higher sampling density.

        Raises:
            ArgumentError: an image of another shape or dtype, a region outside of the image, or a
                focus for a sampler without a density.
            SamplingError: the sampler returns non-finite coordinates; on a CPU only, since other
                devices would have to be waited for.
        """
        source = InMemoryImage(image) if isinstance(image, Tensor) else image
        size, thumbnail_size = self.sizes(source.size)
        like = self.normalize.mean.expand(source.count, -1, -1, -1)
        uniform = identity_grid(thumbnail_size, like)
        with record_function("thumbnail"):
            if self.needs_thumbnail:
                thumbnail = source.sample(uniform, None if self.lod_bias is None else 0.0)
            else:
                thumbnail = like.new_zeros(source.count, 3, *thumbnail_size)
        informed, first_logits = self.first_pass(thumbnail)
        with record_function("density"):
            placement: Placement = self.sampler(self.normalize(informed), size, labels)
            density, grid, curves = placement
            if focus is not None:
                density = focus.apply(density, source.size)
                grid = self.sampler.regrid(density, size)
            if is_readable(grid):
                check_finite(grid, type(self.sampler).__name__)
        with record_function("warp"):
            small = source.sample(grid if self.sample_gradient else grid.detach(), self.lod_bias)
        return Downsampled(small, grid, density, curves, first_logits)

    @property
    def needs_thumbnail(self) -> bool:
        """Whether a thumbnail is sampled from the image."""
        return self.sampler.needs_thumbnail

    def sizes(self, image_size: Size) -> tuple[Size, Size]:
        """The sizes (h, w) of the small image and the thumbnail of an image of size (H, W)."""
        size = sampled_size(image_size, self.sampled_size)
        return size, _scaled(size, self.thumbnail_scale)

    def first_pass(self, thumbnail: Tensor) -> tuple[Tensor, Tensor | None]:
        """The image (b, 3, h, w) that the sampler sees, and the logits of the thumbnail, if any."""
        return thumbnail, None


def check_finite(grid: Tensor, sampler: str) -> None:
    """Raise ``SamplingError`` unless all coordinates of the grid of a sampler are finite."""
    if not bool(grid.isfinite().all()):
        raise non_finite(sampler)


def non_finite(sampler: str) -> SamplingError:
    """The error for the non-finite grid of a sampler."""
    return SamplingError(
        f"Expected finite sampling locations, but got non-finite coordinates from {sampler}: its "
        "weights are not finite (use an earlier checkpoint and a lower learning rate), or the "
        "precision is too low."
    )


def sampled_size(image_size: Size, wanted: tuple[int, int] | int) -> Size:
    """The size (h, w) of the downsampled image.

    Args:
        image_size: (H, W) of the image.
        wanted: a size, which is returned, or a maximum number of pixels, in the aspect of the
            image.

    Example:
        >>> sampled_size((1024, 2048), 8192)
        (64, 128)
    """
    if not isinstance(wanted, int):
        height, width = wanted
        return height, width
    scale = math.sqrt(wanted / (image_size[0] * image_size[1]))
    height = max(2, round(image_size[0] * scale))
    width = max(2, min(round(image_size[1] * scale), wanted // height))
    return height, width


def _scaled(size: Size, scale: float) -> Size:
    """A scaled size whose samples coincide for integer scales and their inverses."""
    return max(2, round((size[0] - 1) * scale) + 1), max(2, round((size[1] - 1) * scale) + 1)
