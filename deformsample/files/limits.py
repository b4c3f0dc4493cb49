"""Checks of declared sizes before a file is decoded."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import TiffImageFile

from deformsample.errors import DataError

LARGEST_CHUNK = 64_000_000
"""Maximum number of pixels of a tile or strip of a TIFF."""

LARGEST_VOLUME = 1 << 28
"""Maximum number of voxels of one channel of a volume (645 per side)."""

_TILE_SIDES = 322, 323  # tags of a TIFF
_CODECS = frozenset({"blosc", "bz2", "gzip", "lz4", "lzma", "shuffle", "zlib", "zstd"})
_DEFLATE = 1032  # maximum compression ratio of deflate


def check_image(image: Image.Image, path: Path) -> None:
    """Check an opened image; further pages of a TIFF or JPEG (levels, thumbnails) are ignored."""
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
            f"Expected a single image, but {path} is an animation of {frames} frames: save one "
            "frame."
        )


def check_tiff(series: Any, path: Path) -> None:
    """Check that the declared type of a TIFF is supported and that its data is complete."""
    if series.axes not in ("YX", "YXS") or series.dtype not in (np.uint8, np.uint16):
        raise DataError(
            "Expected a TIFF of rows, columns and channels of 8 or 16 bits, but "
            f"{path} has axes {series.axes} of {series.dtype}."
        )
    file_size = path.stat().st_size
    for level in series.levels:
        page = level.keyframe
        if min(level.shape[:2]) < (2 if level is series.levels[0] else 1):
            raise DataError(
                f"Expected an image of at least 2 x 2 pixels, but {path} has the shape "
                f"{level.shape}."
            )
        if math.prod(page.chunks[:2]) > LARGEST_CHUNK:
            raise DataError(
                f"Expected a TIFF whose tiles have at most {LARGEST_CHUNK:,} pixels, but {path} "
                f"has chunks of {page.chunks[0]} x {page.chunks[1]}: save it with tiles."
            )
        ends = [o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=True)]
        if len(ends) != math.prod(page.chunked) or max(ends, default=file_size + 1) > file_size:
            raise DataError(
                f"Expected a complete TIFF, but {path} declares {page.shape[0]} x {page.shape[1]} "
                "pixels and is truncated: get the file again."
            )


def check_zarr(array: Any, path: Path) -> None:
    """Check the declared type and size of a level of an OME-Zarr image, and how it is encoded."""
    if array.dtype not in (np.uint8, np.uint16):
        raise DataError(f"Expected an image of 8 or 16 bits, but {path} has {array.dtype}.")
    if math.prod(array.chunks) > LARGEST_CHUNK:
        raise DataError(
            f"Expected chunks of at most {LARGEST_CHUNK:,} values, but {path} has chunks of "
            f"{array.chunks}: save it with smaller chunks."
        )
    described = array.metadata.to_dict()
    # Version 2 of the format has codecs that run code (pickle).
    codecs = [described.get("compressor"), *(described.get("filters") or ())]
    names = {codec["id"] for codec in codecs if codec}
    if unknown := names - _CODECS:
        raise DataError(
            f"Expected an image compressed by one of {', '.join(sorted(_CODECS))}, but {path} "
            f"needs {', '.join(sorted(unknown))}."
        )


def check_volume(volume: Any, path: Path) -> None:
    """Check that the declared type and size of a volume are supported and its data is complete."""
    if volume.dtype.kind not in "iuf":
        raise DataError(f"Expected a volume of integers or floats, but {path} has {volume.dtype}.")
    voxels = math.prod(volume.shape[:3])
    if voxels > LARGEST_VOLUME:
        raise DataError(
            f"Expected a volume of at most {LARGEST_VOLUME:,} voxels, but {path} declares "
            f"{voxels:,}: split it."
        )
    largest_ratio = _DEFLATE if path.suffix == ".gz" else 1
    needed = volume.offset + math.prod(volume.shape) * volume.dtype.itemsize
    if needed > path.stat().st_size * largest_ratio:
        raise DataError(
            f"Expected a complete NIfTI volume, but {path} declares {volume.shape} voxels, which "
            f"do not fit in its {path.stat().st_size:,} bytes: get the file again."
        )
