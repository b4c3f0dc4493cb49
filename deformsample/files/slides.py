"""Images that are too large to read whole: TIFF of any kind, and slides.

What is read are parts of pyramid levels. Where the file has a level, it is taken; where it has
none, parts of the next finer one are averaged.
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
from deformsample.files.limits import check_tiff
from deformsample.files.reading import regular_file
from deformsample.kernels.pixels import halve

SLIDE_SUFFIXES = frozenset({".bif", ".mrxs", ".ndpi", ".scn", ".svs", ".svslide", ".vms", ".vmu"})
"""Formats that OpenSlide reads and others do not; in lower case."""

TIFF_SUFFIXES = frozenset({".tif", ".tiff"})

READ_WHOLE = 64_000_000
"""Pixels of a TIFF up to which it is read whole."""

_LARGEST_PART = 2048
"""Side of what is read at once, in pixels of the file's level."""

Values: TypeAlias = npt.NDArray[np.float32]

_INSTALL = "install it with `pip install 'deformsample[slides]'`"


class LargeImage(ABC):
    """An image in a file, read in parts; close it, or use it in a ``with``.

    Args:
        path: of the file.
        levels: sizes (H, W) of the levels in the file, the full image first.
    """

    def __init__(self, path: Path, levels: Sequence[Size]) -> None:
        self.path = path
        self.size = levels[0]
        # By number: the image halved so many times. Levels in between are of no use here.
        self.levels = {
            number: index
            for index, size in reversed(list(enumerate(levels)))
            if (number := _halvings(levels[0], size)) is not None
        }

    @abstractmethod
    def part(self, index: int, top: int, bottom: int, left: int, right: int) -> Pixels:
        """A part of a level of the file, (rows, columns, 3) uint8; may fail in any way."""

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
        """A part of a level of the image pyramid.

        Args:
            level: the image is halved so many times.
            top: first row.
            bottom: the row after the last one.
            left: first column.
            right: the column after the last one.

        Returns:
            (3, rows, columns), from 0 to 255.

        Raises:
            DataError: the file cannot be decoded there.
        """
        held = max(number for number in self.levels if number <= level)
        factor = 2 ** (level - held)
        step = max(1, _LARGEST_PART // factor)
        whole = np.empty((3, bottom - top, right - left), np.float32)
        for i in range(top, bottom, step):
            for j in range(left, right, step):
                rows, columns = (i, min(i + step, bottom)), (j, min(j + step, right))
                block = self._averaged(held, factor, rows, columns)
                whole[:, i - top : rows[1] - top, j - left : columns[1] - left] = block
        return whole

    def _averaged(
        self, held: int, factor: int, rows: tuple[int, int], columns: tuple[int, int]
    ) -> Values:
        height, width = (-(-side // 2**held) for side in self.size)
        top, bottom = rows[0] * factor, min(rows[1] * factor, height)
        left, right = columns[0] * factor, min(columns[1] * factor, width)
        pixels = self._padded(held, top, bottom, left, right)
        return halved(pixels, factor.bit_length() - 1)

    def _padded(self, held: int, top: int, bottom: int, left: int, right: int) -> Pixels:
        """A level may end a pixel early, where the file's writer rounded down."""
        try:
            pixels = self.part(self.levels[held], top, bottom, left, right)
        except Exception as error:  # bytes of any kind make a decoder fail in any way
            raise _unreadable(self.path, error) from None
        missing = (bottom - top - pixels.shape[0], right - left - pixels.shape[1])
        if any(missing):
            pixels = np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
        return pixels


class TiffImage(LargeImage):
    """A TIFF or BigTIFF of 8 or 16 bits, with or without tiles and levels.

    One channel is shown as grey, a fourth one (opacity) is left out, and 16-bit images keep
    their high byte.
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
        except Exception as error:  # bytes of any kind make a reader fail in any way
            raise _unreadable(path, error) from None
        try:
            series = self._file.series[0]
            check_tiff(series, path)
            self._arrays: list[Any] = [
                zarr.open(series.aszarr(level=number), mode="r")
                for number in range(len(series.levels))
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


class SlideImage(LargeImage):
    """A whole-slide image, by OpenSlide; what the scanner left out is white."""

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
        except Exception as error:  # bytes of any kind make a reader fail in any way
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


def open_large(path: Path) -> LargeImage:
    """Open a TIFF or a slide, without reading its pixels.

    Raises:
        DataError: no such file, one that cannot be read, or another format.
    """
    suffix = path.suffix.lower()
    if suffix in SLIDE_SUFFIXES:
        return SlideImage(path)
    if suffix in TIFF_SUFFIXES:
        return TiffImage(path)
    raise DataError(
        f"Expected a TIFF or a slide to read in parts, but {path} is neither: convert it first."
    )


def is_large(path: Path) -> bool:
    """Is a file a slide, or a TIFF of more pixels than are read whole? Looks at its header only."""
    suffix = path.suffix.lower()
    if suffix not in TIFF_SUFFIXES:
        return suffix in SLIDE_SUFFIXES
    if not path.is_file():  # opening a pipe would wait for ever
        return False
    try:
        with warnings.catch_warnings(), Image.open(path, formats=("TIFF",)) as image:
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            return bool(image.width * image.height > READ_WHOLE)
    except Image.DecompressionBombError:
        return True
    except Exception:  # bytes of any kind make a reader fail in any way
        return False  # reading it will say what is wrong


def halved(pixels: Pixels, times: int) -> Values:
    """Halve an image (h, w, 3) a number of times: (3, h', w'), from 0 to 255."""
    values: npt.NDArray[Any] = np.ascontiguousarray(pixels.transpose(2, 0, 1))
    for _ in range(times):
        values = halve(values, threads=1)  # files are read side by side already
    return values.astype(np.float32, copy=False)


def _halvings(full: Size, size: Size) -> int | None:
    """How often a level is halved; ``None`` if it is something in between."""
    number = round(math.log2(full[0] / size[0]))
    exact = [whole / 2.0**number for whole in full]
    fits = all(abs(e - side) <= max(1, 0.014 * side) for e, side in zip(exact, size, strict=True))
    return number if fits and number >= 0 else None


def _unreadable(path: Path, error: Exception) -> DataError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return DataError(
        f"Expected a whole TIFF or slide, but {path} cannot be decoded: {reason[:200]}."
    )


def as_rgb(pixels: npt.NDArray[Any]) -> Pixels:
    """Any channels of 8 or 16 bits to three of 8: see :class:`TiffImage`."""
    if pixels.dtype == np.uint16:
        pixels = (pixels >> 8).astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] < 3:
        return np.repeat(pixels[..., :1], 3, axis=2)
    return np.ascontiguousarray(pixels[..., :3])
