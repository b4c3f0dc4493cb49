"""Inputs of models: files, arrays and tensors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from deformsample.errors import ArgumentError
from deformsample.files.levels import read_level
from deformsample.files.slides import is_large, open_large
from deformsample.kernels.pixels import channels_first
from deformsample.samplers import ImageSource, InMemoryImage, OutOfCoreImage

ImageLike: TypeAlias = "str | Path | npt.NDArray[Any] | Tensor"
"""A file, an array (h, w, 3) or (b, h, w, 3), or a tensor (3, h, w) or (b, 3, h, w).

uint8, or float in [0, 1]."""


def as_batch(image: ImageLike, level: int = 0) -> Tensor:
    """Convert any image to a tensor (b, 3, h, w), uint8 or float.

    Args:
        image: the image; files are read whole.
        level: number of halvings of files.

    Raises:
        ArgumentError: another shape or channel count.
        DataError: a file that cannot be read.
    """
    if isinstance(image, Tensor):
        batch = image if image.ndim == 4 else image[None]
        if image.ndim not in (3, 4) or batch.shape[1] != 3:
            raise ArgumentError(
                "Expected a tensor of shape (3, h, w) or (b, 3, h, w), but got "
                f"{tuple(image.shape)}: are the channels last?"
            )
        return batch
    pixels = image if isinstance(image, np.ndarray) else read_level(_path(image), level)
    if pixels.ndim not in (3, 4) or pixels.shape[-1] != 3:
        raise ArgumentError(
            f"Expected an array of shape (h, w, 3) or (b, h, w, 3), but got {tuple(pixels.shape)}."
        )
    planes = [channels_first(single) for single in (pixels if pixels.ndim == 4 else pixels[None])]
    return torch.from_numpy(planes[0][None] if len(planes) == 1 else np.stack(planes))


def labels_like(image: ImageLike, labels: Tensor) -> Any:
    """Labels (b, h, w) in the form of an image: one or a batch, a tensor or a NumPy array."""
    is_batch = isinstance(image, (Tensor, np.ndarray)) and image.ndim == 4
    chosen = labels if is_batch else labels[0]
    return chosen if isinstance(image, Tensor) else chosen.cpu().numpy()


@contextmanager
def open_source(image: ImageLike, device: torch.device) -> Iterator[ImageSource]:
    """An image to sample; slides, OME-Zarr images and large TIFFs are read in parts.

    Args:
        image: as in :func:`as_batch`.
        device: device of the samples.

    Raises:
        ArgumentError: another shape or channel count.
        DataError: a file that cannot be read.
    """
    if isinstance(image, (str, Path)) and is_large(_path(image)):
        with open_large(_path(image)) as file:
            yield OutOfCoreImage(file, device)
    else:
        yield InMemoryImage(as_batch(image).to(device))


def _path(image: str | Path) -> Path:
    return Path(image).expanduser()
