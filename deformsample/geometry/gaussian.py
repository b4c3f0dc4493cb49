"""A Gaussian kernel along one axis, mirrored at the two border cells."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from deformsample.errors import ArgumentError
from deformsample.geometry.dispatch import cached_constants

MIN_SIGMA = 0.5
"""A narrower kernel sees a single cell, and samples would jump to the nearest cell."""

_TAIL = 10.0  # standard deviations; exp(-50) is below float64's rounding of the kernel's peak


class AxisKernel(NamedTuple):
    """A Gaussian between every sample and every cell of one axis."""

    weights: Tensor
    """(samples, cells): sum of k(x - x') over the mirror images x' of the cell."""

    moments: Tensor
    """(samples, cells), in cells: sum of k(x - x') (x' - x) over the mirror images."""


def reflected_gaussian(samples: int, cells: int, sigma: float, like: Tensor) -> AxisKernel:
    """Kernel matrices of one axis; both ends of samples and cells lie on the image border.

    Mirroring about the border cells makes the density symmetric there, so that the weighted mean
    of positions around a border sample is that sample's own position: its moments sum to 0.

    Args:
        samples: number of kernel centres.
        cells: number of cells of the density along this axis.
        sigma: standard deviation in cells, at least ``MIN_SIGMA``.
        like: a tensor that gives device and dtype.

    Returns:
        ``AxisKernel`` of two matrices, exact to rounding (no cut-off).
    """
    if not sigma >= MIN_SIGMA:
        raise ArgumentError(
            f"Expected a kernel width `sigma` of at least {MIN_SIGMA} map cells, but got {sigma}."
        )
    return _reflected_gaussian(samples, cells, float(sigma), like.device, like.dtype)


@cached_constants
def _reflected_gaussian(
    samples: int, cells: int, sigma: float, device: torch.device, dtype: torch.dtype
) -> AxisKernel:
    last = cells - 1
    x = torch.linspace(0, last, samples, dtype=torch.float64)[:, None]
    cell = torch.arange(cells, dtype=torch.float64)[None, :]
    weights = torch.zeros(samples, cells, dtype=torch.float64)
    moments = torch.zeros_like(weights)
    periods = math.ceil(_TAIL * sigma / (2 * last)) + 1
    for k in range(-periods, periods + 1):
        for image in (2 * last * k + cell, 2 * last * k - cell):
            offset = image - x
            weight = torch.exp(-0.5 * (offset / sigma) ** 2)
            weights += weight
            moments += weight * offset
    # A border cell is its own mirror image and was counted twice.
    for matrix in (weights, moments):
        matrix[:, 0] *= 0.5
        matrix[:, -1] *= 0.5
    # These are 0 by symmetry; rounding must not move a sample off the border.
    moments[0] = 0.0
    moments[-1] = 0.0
    return AxisKernel(weights.to(device, dtype), moments.to(device, dtype))
