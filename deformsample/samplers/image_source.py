"""Images as samplers see them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deformsample.errors import ArgumentError


def white(image: Tensor) -> float:
    """The value of white in an image (b, 3, h, w), uint8, or float in [0, 1].

    Raises:
        ArgumentError: another shape or dtype.
    """
    if image.ndim != 4 or image.shape[1] != 3:
        raise ArgumentError(
            f"Expected `image` of shape (b, 3, h, w), but got {tuple(image.shape)}."
        )
    if image.dtype == torch.uint8:
        return 255.0
    if image.is_floating_point():
        return 1.0
    raise ArgumentError(f"Expected `image` of uint8, or float in [0, 1], but got {image.dtype}.")


def as_pixels(image: Tensor) -> npt.NDArray[np.uint8]:
    """A tensor (3, h, w), uint8 or float in [0, 1], to an array (h, w, 3) of bytes."""
    if image.is_floating_point():
        image = (image.clamp(0, 1) * 255).round().to(torch.uint8)
    return np.asarray(image.cpu().numpy().transpose(1, 2, 0))
