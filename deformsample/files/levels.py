"""Reading images of any size at a level of their pyramid."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from deformsample.conventions import Pixels
from deformsample.errors import DataError
from deformsample.files import slides as large
from deformsample.files.images import read_image
from deformsample.files.slides import Values, halved, is_large, open_large


def read_level(path: Path, level: int) -> Pixels:
    """Read an image halved ``level`` times; slides and large TIFFs are read at that level.

    Returns:
        (h, w, 3) uint8.

    Raises:
        DataError: no such file, an unreadable file, or too many pixels at that level.
    """
    if not is_large(path) or path.suffix.lower() in large.JPEG_SUFFIXES:  # decoded whole anyway
        pixels = read_image(path)
        return pixels if level == 0 else _bytes(halved(pixels, level))
    with open_large(path) as image:
        least = math.ceil(math.log2(math.prod(image.size) / large.READ_WHOLE) / 2)
        if level < least:
            raise DataError(
                "Expected an image that can be read whole, but {} has {} x {} pixels: set "
                "`--data.level={}` to read it at a lower resolution.".format(
                    path, *image.size, least
                )
            )
        height, width = (-(-side // 2**level) for side in image.size)
        return _bytes(image.read(level, 0, height, 0, width))


def _bytes(values: Values) -> Pixels:
    return np.ascontiguousarray(np.rint(values).astype(np.uint8).transpose(1, 2, 0))
