"""Images of any size, read at a fraction of their resolution."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from deformsample.conventions import Pixels
from deformsample.errors import DataError
from deformsample.files import slides as large
from deformsample.files.images import read_image
from deformsample.files.slides import is_large, open_large
from deformsample.geometry import halve


def read_level(path: Path, level: int) -> Pixels:
    """Read an image that was halved ``level`` times; of a slide or a large TIFF, only that.

    Returns:
        (h, w, 3) uint8.

    Raises:
        DataError: a file that is missing or cannot be read, or too many pixels at that level.
    """
    if not is_large(path):
        pixels = read_image(path)
        return pixels if level == 0 else _halved(pixels, level)
    with open_large(path) as image:
        least = math.ceil(math.log2(math.prod(image.size) / large.READ_WHOLE) / 2)
        if level < least:
            raise DataError(
                "Expected an image that can be read whole, but {} has {} x {} pixels: set "
                "`--data.level={}`, by which it is halved so often.".format(
                    path, *image.size, least
                )
            )
        height, width = (-(-side // 2**level) for side in image.size)
        return _bytes(image.read(level, 0, height, 0, width))


def _halved(pixels: Pixels, level: int) -> Pixels:
    image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())[None]
    for _ in range(level):
        image = halve(image)
    return _bytes(image[0])


def _bytes(image: Tensor) -> Pixels:
    rounded: Pixels = image.round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return rounded
