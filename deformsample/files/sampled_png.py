"""A downsampled image and where its samples come from, in one PNG that any program opens.

The grid, the density map and the original's size lie in a private chunk of the PNG (``dfSM``: not
critical, not safe to copy into an edited image), as NumPy's NPZ.
"""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from deformsample.conventions import Pixels, Size
from deformsample.errors import DataError
from deformsample.files.images import open_image, save_image

_CHUNK = b"dfSM"
_MEMBERS = frozenset({"grid.npy", "density.npy", "size.npy"})
_TYPES = [np.dtype(np.float32), np.dtype(np.float32), np.dtype(np.int64)]
_HEADER = 256  # bytes of an NPY file before its numbers, at most
_ROUNDING = 1e-3

Floats = npt.NDArray[np.float32]


class SampledImage(NamedTuple):
    """An image brought to few samples, as a file holds it."""

    pixels: Pixels
    """(h, w, 3) uint8."""

    grid: Floats
    """(h, w, 2), the samples' normalised points (x, y)."""

    density: Floats
    """(h', w'), sum 1."""

    size: Size
    """(H, W) of the original."""


def write_sampled(path: Path, sampled: SampledImage) -> None:
    """Write a PNG, whole or not at all."""
    stream = io.BytesIO()
    np.savez_compressed(
        stream,
        grid=sampled.grid.astype(np.float32),
        density=sampled.density.astype(np.float32),
        size=np.array(sampled.size, np.int64),
    )
    info = PngInfo()
    info.add(_CHUNK, stream.getvalue())
    save_image(Image.fromarray(sampled.pixels), path, pnginfo=info)


def read_sampled(path: Path) -> SampledImage:
    """Read what :func:`write_sampled` wrote.

    Raises:
        DataError: no such file, not a PNG, or one without the samples' places.
    """
    image = open_image(path)
    chunks = image.private_chunks if isinstance(image, PngImageFile) else []
    held = [chunk[1] for chunk in chunks if chunk[0] == _CHUNK]
    if not held or image.mode != "RGB":
        raise DataError(
            f"Expected a PNG that `deformsample downsample` wrote, but {path} does not say where "
            "its pixels come from: was it edited, or converted?"
        )
    pixels = np.asarray(image)
    try:
        arrays = _unpacked(held[0], pixels.shape[0] * pixels.shape[1])
        grid, density, size = arrays["grid"], arrays["density"], arrays["size"]
        fits = grid.shape == (*pixels.shape[:2], 2) and density.ndim == 2 and size.shape == (2,)
        if not fits or [x.dtype for x in (grid, density, size)] != _TYPES:
            raise ValueError(f"a grid of {grid.shape} for {pixels.shape[:2]} pixels")
        if not (np.abs(grid) <= 1 + _ROUNDING).all() or not np.isfinite(density).all():
            raise ValueError("some are no places in an image")
        height, width = (int(n) for n in size)
        if min(height, width) < 2:
            raise ValueError(f"an original of {height} x {width} pixels")
    except Exception as error:  # bytes of any kind make a reader fail in any way
        raise DataError(
            f"Expected the samples' places in {path} to be whole, but they cannot be read: {error}"
        ) from None
    return SampledImage(pixels, grid, density, (height, width))


def _unpacked(content: bytes, samples: int) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an NPZ, whose members say how large they are before they are unpacked."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
    # A density map can be finer than the samples, but not without bound.
    largest = {"grid.npy": 8 * samples, "density.npy": 256 * samples + 4096, "size.npy": 16}
    if set(sizes) != _MEMBERS or any(sizes[m] > largest[m] + _HEADER for m in _MEMBERS):
        raise ValueError(f"it holds {sizes}")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
