"""Regions of the user, which get more samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deformsample.conventions import Size
from deformsample.errors import ArgumentError
from deformsample.geometry.focus import box_coverage, focused_density, mask_coverage


@dataclass(frozen=True, eq=False)
class Focus:
    """Regions of an image whose sampling density is multiplied by a factor.

    The density map is multiplied by ``factor`` in the regions, in proportion to the share of each
    cell that they cover, and divided by its new sum; the sampler makes a grid of it. The density in
    the regions thus grows by ``factor`` relative to the rest, and in absolute terms by
    factor / (1 + (factor - 1) s), where s is the share of the samples that the regions had. The
    minimum of a :class:`~deformsample.samplers.TransportGrid` still holds everywhere.

    Args:
        regions: boxes (x0, y0, x1, y1) and points (x, y) in pixels of the full image, or a mask
            (H, W), an array or tensor of bool. A box has the pixels of ``image[y0:y1, x0:x1]``; it
            may be partly outside of the image. A point is a square with the point in its middle.
            Pixels in several regions are multiplied once.
        factor: factor of the density, above 0; below 1 for fewer samples.
        radius: half the side of the square of a point, relative to the shorter side of the image.

    Raises:
        ArgumentError: no regions, other numbers of coordinates, coordinates that are not finite,
            an empty box, or a factor or radius of 0 or less.

    Example:
        >>> from deformsample.samplers import Downsampler, UniformSampler
        >>> downsampler = Downsampler(UniformSampler(), sampled_size=(32, 32))
        >>> focus = Focus([(0, 0, 64, 128)], factor=3.0)  # the left half
        >>> density = downsampler(torch.rand(1, 3, 128, 128), focus=focus).density
        >>> round(float(density[..., :16].sum()), 2)  # 0.5 without the focus
        0.75
    """

    regions: Sequence[Sequence[float]] | npt.NDArray[Any] | Tensor
    factor: float = 4.0
    radius: float = 0.05

    def __post_init__(self) -> None:
        for name, value in (("factor", self.factor), ("radius", self.radius)):
            if not 0 < value < math.inf:
                raise ArgumentError(
                    f"Expected `{name}` of a focus to be a number above 0, but got {value}."
                )
        if isinstance(self.regions, (np.ndarray, Tensor)):
            _check_mask(self.regions)
        elif not len(self.regions):
            raise ArgumentError(
                "Expected boxes, points or a mask as `regions` of a focus, but got none."
            )
        else:
            for region in self.regions:
                _check_region(region)

    def apply(self, density: Tensor, image_size: Size) -> Tensor:
        """The density map (b, 1, h, w) of images of size (H, W), with more in the regions.

        Raises:
            ArgumentError: a region outside of the image, or a mask of another size.
        """
        size = (density.shape[2], density.shape[3])
        return focused_density(density, self._coverage(image_size, size), self.factor)

    def _coverage(self, image_size: Size, size: Size) -> Tensor:
        if isinstance(self.regions, (np.ndarray, Tensor)):
            mask = torch.as_tensor(self.regions).cpu()
            if mask.shape != image_size:
                raise ArgumentError(
                    f"Expected a mask of the size {image_size} of the image, but got "
                    f"{tuple(mask.shape)}."
                )
            return mask_coverage(mask, size)
        boxes = [self._box(region, image_size) for region in self.regions]
        return box_coverage(torch.tensor(boxes, dtype=torch.float64), image_size, size)

    def _box(self, region: Sequence[float], image_size: Size) -> Sequence[float]:
        height, width = image_size
        x, y = region[:2]
        right, bottom = region[2:] if len(region) == 4 else (x + 1, y + 1)
        if not (x < width and y < height and right > 0 and bottom > 0):
            raise ArgumentError(
                f"Expected regions in an image of {width} x {height} pixels, but got "
                f"{tuple(region)}, which is outside."
            )
        if len(region) == 4:
            return region
        reach = self.radius * min(image_size)
        x, y = x + 0.5, y + 0.5  # the middle of the pixel, in coordinates of boxes
        return x - reach, y - reach, x + reach, y + reach


def _check_region(region: Sequence[float]) -> None:
    if len(region) not in (2, 4):
        raise ArgumentError(
            "Expected a point (x, y) or a box (x0, y0, x1, y1), but got "
            f"{len(region)} coordinates: {tuple(region)}."
        )
    if not all(math.isfinite(value) for value in region):
        raise ArgumentError(f"Expected finite coordinates of a focus, but got {tuple(region)}.")
    if len(region) == 4 and not (region[0] < region[2] and region[1] < region[3]):
        raise ArgumentError(
            f"Expected a box (x0, y0, x1, y1) with x0 < x1 and y0 < y1, but got {tuple(region)}."
        )


def _check_mask(mask: npt.NDArray[Any] | Tensor) -> None:
    if mask.ndim != 2 or str(mask.dtype).removeprefix("torch.") != "bool":
        raise ArgumentError(
            "Expected a mask (H, W) of bool as `regions` of a focus, but got "
            f"{tuple(mask.shape)} of {mask.dtype}: give boxes and points as a list."
        )
