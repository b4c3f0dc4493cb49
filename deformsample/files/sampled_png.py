"""PNG files with embedded sampling grids.

The grid, the density map and the size of the original are stored as NPZ in a private PNG chunk
(``dfSM``: ancillary, not safe to copy into an edited image).
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
_HEADER = 256  # maximum bytes of an NPY header
_ROUNDING = 1e-3

Floats = npt.NDArray[np.float32]


class SampledImage(NamedTuple):
    """A downsampled image with its sampling grid."""

    pixels: Pixels
    """(h, w, 3) uint8."""

    grid: Floats
    """(h, w, 2), normalised points (x, y) of the samples."""

    density: Floats
    """(h', w'), sum 1."""

    size: Size
    """(H, W) of the original."""


def write_sampled(path: Path, sampled: SampledImage) -> None:
    """Write a PNG atomically."""
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
    """Read a file of :func:`write_sampled`.

    Raises:
        DataError: no such file, not a PNG, or a PNG without a valid sampling grid.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> pixels, grid = np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3, 2), np.float32)
        >>> sampled = SampledImage(pixels, grid, np.ones((1, 1), np.float32), (20, 30))
        >>> with TemporaryDirectory() as folder:
        ...     path = Path(folder) / "a.png"
        ...     write_sampled(path, sampled)
        ...     read_sampled(path).size
        (20, 30)
    """
    image = open_image(path)
    chunks = image.private_chunks if isinstance(image, PngImageFile) else []
    embedded = [chunk[1] for chunk in chunks if chunk[0] == _CHUNK]
    if not embedded or image.mode != "RGB":
        raise DataError(
            f"Expected a PNG of `deformsample downsample`, but {path} has no embedded sampling "
            "grid: was it edited or converted?"
        )
    pixels = np.asarray(image)
    try:
        arrays = _unpacked(embedded[0], pixels.shape[0] * pixels.shape[1])
        grid, density, size = arrays["grid"], arrays["density"], arrays["size"]
        fits = grid.shape == (*pixels.shape[:2], 2) and density.ndim == 2 and size.shape == (2,)
        if not fits or [x.dtype for x in (grid, density, size)] != _TYPES:
            raise ValueError(f"a grid of {grid.shape} for {pixels.shape[:2]} pixels")
        if not (np.abs(grid) <= 1 + _ROUNDING).all() or not np.isfinite(density).all():
            raise ValueError("some coordinates are outside of the image or non-finite")
        height, width = (int(n) for n in size)
        if min(height, width) < 2:
            raise ValueError(f"an original of {height} x {width} pixels")
    except Exception as error:  # readers raise any exception on invalid bytes
        raise DataError(f"Cannot read the sampling grid of {path}: {error}") from None
    return SampledImage(pixels, grid, density, (height, width))


def _unpacked(content: bytes, samples: int) -> dict[str, npt.NDArray[Any]]:
    """The arrays of an NPZ; the declared sizes of its members are checked first."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        sizes = {member.filename: member.file_size for member in archive.infolist()}
    # A density map can be finer than the grid, within limits.
    largest = {"grid.npy": 8 * samples, "density.npy": 256 * samples + 4096, "size.npy": 16}
    if set(sizes) != _MEMBERS or any(sizes[m] > largest[m] + _HEADER for m in _MEMBERS):
        raise ValueError(f"it contains {sizes}")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}
