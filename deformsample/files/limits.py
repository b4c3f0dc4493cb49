"""What files declare of themselves, looked at before anything of them is decoded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from deformsample.errors import DataError

LARGEST_CHUNK = 64_000_000
"""Pixels of a tile or strip of a TIFF up to which it is decoded."""

LARGEST_VOLUME = 1 << 28
"""Voxels of one channel of a volume up to which it is decoded, such as 645 in each direction."""

_TILE_SIDES = 322, 323  # tags of a TIFF
_DEFLATE = 1032  # bytes that one compressed byte can stand for, at most


def check_image(image: Image.Image, path: Path) -> None:
    """Pages of a TIFF are levels or thumbnails, those of a phone's JPEG too: the first counts."""
    if isinstance(image, TiffImageFile):
        tile = math.prod(image.tag_v2.get(side, 0) for side in _TILE_SIDES)
        if tile > LARGEST_CHUNK:
            raise DataError(
                f"Expected a TIFF whose tiles have at most {LARGEST_CHUNK:,} pixels, but {path} "
                f"has tiles of {tile:,}."
            )
    frames = getattr(image, "n_frames", 1) if image.format in ("PNG", "WEBP") else 1
    if frames > 1:
        raise DataError(
            f"Expected a single image, but {path} is an animation of {frames}: save the one that "
            "you mean."
        )


def check_tiff(series: Any, path: Path) -> None:
    """What a TIFF declares must be of a kind that can be read, and be there."""
    if series.axes not in ("YX", "YXS") or series.dtype not in (np.uint8, np.uint16):
        raise DataError(
            "Expected a TIFF of rows, columns and channels of 8 or 16 bits, but "
            f"{path} has axes {series.axes} of {series.dtype}."
        )
    held = path.stat().st_size
    for level in series.levels:
        page = level.keyframe
        if min(level.shape[:2]) < (2 if level is series.levels[0] else 1):
            raise DataError(
                f"Expected an image of at least 2 x 2 pixels, but {path} has the shape "
                f"{level.shape}."
            )
        if math.prod(page.chunks[:2]) > LARGEST_CHUNK:
            raise DataError(
                f"Expected a TIFF whose parts have at most {LARGEST_CHUNK:,} pixels, but {path} "
                f"has parts of {page.chunks[0]} x {page.chunks[1]}: save it with tiles."
            )
        ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if len(ends) != math.prod(page.chunked) or max(ends, default=held + 1) > held:
            raise DataError(
                f"Expected a whole TIFF, but {path} declares {page.shape[0]} x {page.shape[1]} "
                "pixels and does not hold them: get the file again."
            )


def check_volume(volume: Any, path: Path) -> None:
    """What the head declares must be numbers, be of a size that can be read, and be there."""
    if volume.dtype.kind not in "iuf":
        raise DataError(
            f"Expected a volume of whole numbers or floats, but {path} holds {volume.dtype}."
        )
    voxels = math.prod(volume.shape[:3])
    if voxels > LARGEST_VOLUME:
        raise DataError(
            f"Expected a volume of at most {LARGEST_VOLUME:,} voxels, but {path} declares "
            f"{voxels:,}: cut it into parts."
        )
    largest_ratio = _DEFLATE if path.suffix == ".gz" else 1
    needed = volume.offset + math.prod(volume.shape) * volume.dtype.itemsize
    if needed > path.stat().st_size * largest_ratio:
        raise DataError(
            f"Expected a whole NIfTI volume, but {path} declares {volume.shape} voxels, which its "
            f"{path.stat().st_size:,} bytes cannot hold: get it again."
        )
