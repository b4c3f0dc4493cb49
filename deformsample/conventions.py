"""Conventions of the whole package.

Images are (b, c, h, w), sizes (h, w), points (x, y), grids (b, h, w, 2) in [-1, 1] with
``align_corners=True``.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

IGNORE_INDEX = 255
"""Label of pixels without a class."""

STAGES = ("thumbnail", "density", "warp", "network", "unwarp")
"""Steps of the method in a profile (``torch.profiler``), in order."""

Size: TypeAlias = tuple[int, int]
"""Height and width, in pixels, samples or cells."""

Colour: TypeAlias = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

Pixels: TypeAlias = npt.NDArray[np.uint8]
"""An image (h, w, 3), or class ids (h, w)."""
