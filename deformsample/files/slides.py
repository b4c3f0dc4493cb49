"""Out-of-core reading of large TIFFs and JPEGs, slides and OME-Zarr images.

Regions of pyramid levels are read from the file, or averaged from the next finer level in the file.
"""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image
from typing_extensions import override

from deformsample.conventions import Pixels, Size
from deformsample.errors import DataError
from deformsample.files.images import ZARR_SUFFIX, read_image
from deformsample.files.limits import check_tiff, check_zarr
from deformsample.files.reading import regular_file
from deformsample.kernels.pixels import channels_first, halve

SLIDE_SUFFIXES = frozenset({".bif", ".mrxs", ".ndpi", ".scn", ".svs", ".svslide", ".vms", ".vmu"})
"""Suffixes of formats that only OpenSlide reads, in lower case."""

TIFF_SUFFIXES = frozenset({".tif", ".tiff"})

JPEG_SUFFIXES = frozenset({".jpeg", ".jpg"})

READ_WHOLE = 50_000_000
"""Maximum number of pixels of a TIFF or JPEG that is read whole."""

_ORIENTATION = 0x0112  # tag of EXIF

_BLOCK_SIDE = 2048
"""Side of a block that is read at once, in pixels of the level in the file."""

Values: TypeAlias = npt.NDArray[np.float32]

_INSTALL = "install it with `pip install 'deformsample[slides]'`"


class LargeImage(ABC):
    """An image file that is read in regions; close it, or use it as a context manager.

    Args:
        path: path of the file.
        levels: sizes (H, W) of the levels in the file, the full image first.
    """

    def __init__(self, path: Path, levels: Sequence[Size]) -> None:
        self.path = path
        self.size = levels[0]
        # Keys are numbers of halvings; levels of other ratios are not used.
        self.levels = {
            halvings: index
            for index, size in reversed(list(enumerate(levels)))
            if (halvings := _halvings(levels[0], size)) is not None
        }

    @abstractmethod
    def part(self, index: int, top: int, bottom: int, left: int, right: int) -> Pixels:
        """A region of a level of the file, (rows, columns, 3) uint8; may raise any exception."""

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    def __enter__(self) -> LargeImage:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def read(self, level: int, top: int, bottom: int, left: int, right: int) -> Values:
        """A region of a level of the image pyramid.

        Args:
            level: number of halvings.
            top: first row.
            bottom: the row after the last row.
            left: first column.
            right: the column after the last column.

        Returns:
            (3, rows, columns), from 0 to 255.

        Raises:
            DataError: the region cannot be decoded.
        """
        stored = max(halvings for halvings in self.levels if halvings <= level)
        factor = 2 ** (level - stored)
        step = max(1, _BLOCK_SIDE // factor)
        whole = np.empty((3, bottom - top, right - left), np.float32)
        for i in range(top, bottom, step):
            for j in range(left, right, step):
                rows, columns = (i, min(i + step, bottom)), (j, min(j + step, right))
                block = self._averaged(stored, factor, rows, columns)
                whole[:, i - top : rows[1] - top, j - left : columns[1] - left] = block
        return whole

    def _averaged(
        self, stored: int, factor: int, rows: tuple[int, int], columns: tuple[int, int]
    ) -> Values:
        height, width = (-(-side // 2**stored) for side in self.size)
        top, bottom = rows[0] * factor, min(rows[1] * factor, height)
        left, right = columns[0] * factor, min(columns[1] * factor, width)
        pixels = self._padded(stored, top, bottom, left, right)
        return halved(pixels, factor.bit_length() - 1)

    def _padded(self, stored: int, top: int, bottom: int, left: int, right: int) -> Pixels:
        """A region of a level, padded where the level of the file was rounded down."""
        try:
            pixels = self.part(self.levels[stored], top, bottom, left, right)
        except Exception as error:  # decoders raise any exception on invalid bytes
            raise _unreadable(self.path, error) from None
        missing = (bottom - top - pixels.shape[0], right - left - pixels.shape[1])
        if any(missing):
            pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        return pixels


class TiffImage(LargeImage):
    """A TIFF or BigTIFF of 8 or 16 bits, with or without tiles and levels.

    Grey images become RGB, a fourth channel (opacity) is dropped, and 16-bit images are converted
    to 8 bits by keeping the high byte.
    """

    def __init__(self, path: Path) -> None:
        try:
            import tifffile
            import zarr
        except ImportError:
            raise DataError(f"Expected tifffile and zarr to read {path}: {_INSTALL}.") from None
        regular_file(path, "an image file")
        try:
            self._file = tifffile.TiffFile(path)
        except Exception as error:  # readers raise any exception on invalid bytes
            raise _unreadable(path, error) from None
        try:
            series = self._file.series[0]
            check_tiff(series, path)
            self._arrays: list[Any] = [
                zarr.open(series.aszarr(level=level), mode="r")
                for level in range(len(series.levels))
            ]
            sizes = [(array.shape[0], array.shape[1]) for array in self._arrays]
            super().__init__(path, sizes)
        except Exception as error:
            self._file.close()
            raise error if isinstance(error, DataError) else _unreadable(path, error) from None

    @override
    def part(self, index: int, top: int, bottom: int, left: int, right: int) -> Pixels:
        return as_rgb(np.asarray(self._arrays[index][top:bottom, left:right]))

    @override
    def close(self) -> None:
        self._file.close()


class JpegImage(LargeImage):
    """A JPEG, decoded at 1, 1/2, 1/4 or 1/8 of its size; the decoder averages on the way.

    Decoding at 1/8 takes a fraction of the time and of the memory. Each size is decoded once, when
    it is needed. The file has no EXIF orientation.
    """

    def __init__(self, path: Path) -> None:
        regular_file(path, "an image file")
        try:
            with Image.open(path, formats=("JPEG",)) as image:
                sides = image.height, image.width
        except Exception as error:  # readers raise any exception on invalid bytes
            raise _unreadable(path, error) from None
        levels = [(-(-sides[0] // 2**k), -(-sides[1] // 2**k)) for k in range(4)]
        super().__init__(path, levels)
        self._decoded: dict[int, Pixels] = {}

    @override
    def part(self, index: int, top: int, bottom: int, left: int, right: int) -> Pixels:
        if index not in self._decoded:
            self._decoded[index] = read_image(self.path, index)
        return self._decoded[index][top:bottom, left:right]

    @override
    def close(self) -> None:
        self._decoded.clear()


class SlideImage(LargeImage):
    """A whole-slide image, read by OpenSlide; areas that were not scanned are white."""

    def __init__(self, path: Path) -> None:
        try:
            import openslide
        except ImportError:
            raise DataError(f"Expected OpenSlide to read {path}: {_INSTALL}.") from None
        regular_file(path, "an image file")
        try:
            self._slide = openslide.OpenSlide(str(path))
            sizes = [(height, width) for width, height in self._slide.level_dimensions]
            super().__init__(path, sizes)
        except Exception as error:  # readers raise any exception on invalid bytes
            raise _unreadable(path, error) from None

    @override
    def part(self, index: int, top: int, bottom: int, left: int, right: int) -> Pixels:
        width, height = self._slide.level_dimensions[index]
        factor = self._slide.level_downsamples[index]
        corner = round(left * factor), round(top * factor)
        size = min(right, width) - left, min(bottom, height) - top
        region = np.asarray(self._slide.read_region(corner, index, size))
        opacity = region[..., 3:].astype(np.uint16)
        mixed = (region[..., :3] * opacity + 255 * (255 - opacity)) // 255
        return mixed.astype(np.uint8)

    @override
    def close(self) -> None:
        self._slide.close()


class ZarrImage(LargeImage):
    """An OME-Zarr image (OME-NGFF 0.4 and 0.5) of 8 or 16 bits; see https://ngff.openmicroscopy.org.

    Channels as in :class:`TiffImage`. Of further axes, the first time and depth are read.
    """

    def __init__(self, path: Path) -> None:
        try:
            import zarr
        except ImportError:
            raise DataError(f"Expected zarr to read {path}: {_INSTALL}.") from None
        if not path.is_dir():
            raise DataError(f"Expected the folder of an OME-Zarr image, but got {path}.")
        try:
            group: Any = zarr.open_group(path, mode="r")
            image = group.attrs.get("ome", group.attrs)["multiscales"][0]
            self._axes = [axis["name"] for axis in image["axes"]]
            self._arrays: list[Any] = [group[level["path"]] for level in image["datasets"]]
            row, column = self._axes.index("y"), self._axes.index("x")
            sizes = [(array.shape[row], array.shape[column]) for array in self._arrays]
        except Exception as error:  # readers raise any exception on invalid bytes
            raise _unreadable(path, error) from None
        for array in self._arrays:
            check_zarr(array, path)
        super().__init__(path, sizes)

    @override
    def part(self, index: int, top: int, bottom: int, left: int, right: int) -> Pixels:
        chosen = {"y": slice(top, bottom), "x": slice(left, right), "c": slice(None)}
        values = np.asarray(self._arrays[index][tuple(chosen.get(name, 0) for name in self._axes)])
        kept = [name for name in self._axes if name in chosen]
        return as_rgb(values.transpose([kept.index(name) for name in ("y", "x", "c")[: len(kept)]]))

    @override
    def close(self) -> None:
        """Nothing is kept open."""


def open_large(path: Path) -> LargeImage:
    """Open a TIFF, a slide or an OME-Zarr image, without reading its pixels.

    Raises:
        DataError: no such file, an unreadable file, or another format.
    """
    suffix = path.suffix.lower()
    if suffix == ZARR_SUFFIX:
        return ZarrImage(path)
    if suffix in SLIDE_SUFFIXES:
        return SlideImage(path)
    if suffix in TIFF_SUFFIXES:
        return TiffImage(path)
    if suffix in JPEG_SUFFIXES:
        return JpegImage(path)
    raise DataError(
        "Expected a TIFF, a JPEG, a slide or an OME-Zarr image to read in parts, but got "
        f"{path}: convert it first."
    )


def is_large(path: Path) -> bool:
    """Whether a path is a slide, an OME-Zarr image, or a large TIFF or JPEG; reads the header."""
    suffix = path.suffix.lower()
    if suffix == ZARR_SUFFIX:
        return True
    if suffix not in TIFF_SUFFIXES | JPEG_SUFFIXES:
        return suffix in SLIDE_SUFFIXES
    if not path.is_file():  # opening a pipe would block
        return False
    try:
        with warnings.catch_warnings(), Image.open(path, formats=("TIFF", "JPEG")) as image:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            # Rounded sides of a turned JPEG would shift its samples.
            turned = image.format == "JPEG" and image.getexif().get(_ORIENTATION, 1) != 1
            return bool(image.width * image.height > READ_WHOLE) and not turned
    except Image.DecompressionBombError:
        return True
    except Exception:  # readers raise any exception on invalid bytes
        return False  # reading it reports the error


def halved(pixels: Pixels, times: int) -> Values:
    """Halve an image (h, w, 3) repeatedly: (3, h', w'), from 0 to 255."""
    values = channels_first(pixels)
    for _ in range(times):
        values = halve(values, threads=1)  # files are read in parallel already
    return values.astype(np.float32, copy=False)


def _halvings(full: Size, size: Size) -> int | None:
    """The number of halvings of a level; ``None`` for another ratio."""
    halvings = round(math.log2(full[0] / size[0]))
    exact = [whole / 2.0**halvings for whole in full]
    fits = all(abs(e - side) <= max(1, 0.014 * side) for e, side in zip(exact, size, strict=True))
    return halvings if fits and halvings >= 0 else None


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(f"Cannot read the large image {path}: {reason[:200]}.")


def as_rgb(pixels: npt.NDArray[Any]) -> Pixels:
    """Convert any channels of 8 or 16 bits to RGB of 8 bits; see :class:`TiffImage`."""
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] < 3:
        return np.repeat(pixels[..., :1], 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3])
