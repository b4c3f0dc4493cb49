"""Out-of-core writing of label maps as tiled, compressed (Big)TIFF."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deformsample.conventions import Colour, Pixels, Size
from deformsample.errors import DataError
from deformsample.files.label_maps import palette
from deformsample.files.writing import atomic_write

_TILE = 256


def write_label_tiff(
    bands: Iterable[Pixels], size: Size, classes: Mapping[str, Colour], target: Path
) -> None:
    """Write the class of every pixel, with the colours of the classes.

    Args:
        bands: class ids (n, W), from top to bottom, of any heights.
        size: (H, W) of the image.
        classes: name and colour of every class.
        target: file, written atomically.

    Raises:
        DataError: tifffile is not installed.
        WriteError: the file cannot be written.
    """
    try:
        import tifffile
    except ImportError:
        raise DataError(
            f"Expected tifffile to write {target}: install it with "
            "`pip install 'deformsample[slides]'`."
        ) from None
    with atomic_write(target) as partial:
        tifffile.imwrite(
            partial,
            _tiles(_rows_of_tiles(bands)),
            shape=size,
            dtype=np.uint8,
            bigtiff=size[0] * size[1] > 1 << 31,
            tile=(_TILE, _TILE),
            compression="zlib",
            photometric="palette",
            colormap=_colormap(classes),
            metadata=None,
        )


def _rows_of_tiles(bands: Iterable[Pixels]) -> Iterator[Pixels]:
    """The same rows in bands of ``_TILE`` rows; the last band may have fewer."""
    pending: list[Pixels] = []
    rows = 0
    for band in bands:
        pending.append(band)
        rows += len(band)
        if rows >= _TILE:
            whole = np.concatenate(pending)
            full = rows - rows % _TILE
            yield from np.split(whole[:full], full // _TILE)
            pending, rows = [whole[full:]], rows - full
    if rows:
        yield np.concatenate(pending)


def _tiles(bands: Iterable[Pixels]) -> Iterator[Pixels]:
    """Tiles from left to right; incomplete tiles are padded."""
    for band in bands:
        rows, width = band.shape
        for left in range(0, width, _TILE):
            tile = band[:, left : left + _TILE]
            yield np.pad(tile, ((0, _TILE - rows), (0, _TILE - tile.shape[1])))


def _colormap(classes: Mapping[str, Colour]) -> npt.NDArray[np.uint16]:
    colours = np.zeros((3, 256), np.uint16)
    for class_id, colour in enumerate(palette(classes)):
        colours[:, class_id] = np.array(colour) * 257
    return colours
