"""Downsampling and segmenting images that are never whole in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from deformsample.conventions import Colour, Pixels
from deformsample.errors import ArgumentError, DataError
from deformsample.files.label_maps import palette
from deformsample.files.slides import LargeImage
from deformsample.files.writing import atomic_write
from deformsample.geometry import label_bands, warp_blocks
from deformsample.samplers.downsampler import Downsampled, Downsampler
from deformsample.segmenters import SampledSegmenter, Segmenter, TiledSegmenter

_TILE = 256


@torch.inference_mode()
def downsample_large(downsampler: Downsampler, image: LargeImage) -> Downsampled:
    """As :meth:`deformsample.samplers.downsampler.Downsampler.downsample`, of one image read in parts.

    The samples are taken on the CPU; the sampler works where the downsampler is.
    """
    device = downsampler.mean.device

    def sampled(grid: Tensor, level_bias: float | None) -> Tensor:
        samples = warp_blocks(image.read, image.size, grid.cpu(), level_bias)
        return (samples / 255).to(device)

    return downsampler.downsample_by(sampled, image.size)


@torch.inference_mode()
def segment_large(
    segmenter: Segmenter, image: LargeImage, classes: Mapping[str, Colour], target: Path
) -> None:
    """Write the class of every pixel to a tiled, compressed (Big)TIFF with the classes' colours.

    Args:
        segmenter: in eval mode.
        image: read in parts.
        classes: name and colour of every class.
        target: file, written whole or not at all.
    """
    try:
        import tifffile
    except ImportError:
        raise DataError(
            f"Expected tifffile to write {target}: install it with "
            "`pip install 'deformsample[slides]'`."
        ) from None
    bands = _bands(segmenter, image)
    with atomic_write(target) as partial:
        tifffile.imwrite(
            partial,
            tiles_of(bands),
            shape=image.size,
            dtype=np.uint8,
            bigtiff=image.size[0] * image.size[1] > 1 << 31,
            tile=(_TILE, _TILE),
            compression="zlib",
            photometric="palette",
            colormap=_colormap(classes),
            metadata=None,
        )


def _bands(segmenter: Segmenter, image: LargeImage) -> Iterator[Tensor]:
    """Labels (n, W) uint8 of ``_TILE`` rows, from top to bottom; the last band may have fewer."""
    if isinstance(segmenter, TiledSegmenter):
        device, (_, width) = segmenter.mean.device, image.size

        def read(top: int, bottom: int) -> Tensor:
            return image.read(0, top, bottom, 0, width)[None].to(device) / 255

        return bands_of(rows[0].cpu() for rows in segmenter.label_rows(read, image.size))
    if isinstance(segmenter, SampledSegmenter):
        prediction = segmenter.predict(downsample_large(segmenter, image))
        logits, grid = prediction.logits.float().cpu(), prediction.grid.cpu()
        return label_bands(logits, grid, image.size, _TILE)
    raise ArgumentError(
        "Expected a segmenter that reads an image in parts, but got "
        f"{type(segmenter).__name__}: convert the image to a format that is read whole."
    )


def bands_of(rows: Iterable[Tensor]) -> Iterator[Tensor]:
    """Rows (n, W) in parts of any heights to parts of ``_TILE`` rows; the last may have fewer."""
    held: list[Tensor] = []
    for part in rows:
        whole = torch.cat([*held, part])
        *bands, last = whole.split(_TILE)
        yield from bands
        held = [last]
    yield from held


def tiles_of(bands: Iterator[Tensor]) -> Iterator[Pixels]:
    """Cut bands of ``_TILE`` rows in tiles, from left to right; the last ones are padded."""
    for band in bands:
        rows, width = band.shape
        for left in range(0, width, _TILE):
            part = band[:, left : left + _TILE].numpy()
            missing = (_TILE - rows, _TILE - part.shape[1])
            yield np.pad(part, ((0, missing[0]), (0, missing[1])))


def _colormap(classes: Mapping[str, Colour]) -> np.ndarray[Any, np.dtype[np.uint16]]:
    colours = np.zeros((3, 256), np.uint16)
    for number, colour in enumerate(palette(classes)):
        colours[:, number] = np.array(colour) * 257
    return colours
