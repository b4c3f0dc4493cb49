"""``deformsample restore``: restore downsampled images to full size, without torch."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deformsample.cli.batch import add_batch_arguments, process_each
from deformsample.conventions import Pixels
from deformsample.errors import DataError
from deformsample.files.images import write_image
from deformsample.files.sampled_png import read_sampled

LARGEST = 1 << 28
"""Maximum number of pixels of a restored image."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    add_batch_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Restore every image."""
    from deformsample.kernels import unwarp

    def work(source: Path, target: Path) -> None:
        sampled = read_sampled(source)
        height, width = sampled.size
        if height * width > LARGEST:
            raise DataError(
                f"Expected an original of at most {LARGEST:,} pixels, but that of {source} has "
                f"{height} x {width}."
            )
        small = sampled.pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255
        write_image(target, as_pixels(unwarp(small, sampled.grid[None], sampled.size)[0]))

    process_each(options, work)


def as_pixels(image: npt.NDArray[Any]) -> Pixels:
    """Convert a float image (3, h, w) in [0, 1] to (h, w, 3) uint8."""
    pixels: Pixels = (image.clip(0, 1) * 255).round().astype(np.uint8)
    return np.moveaxis(pixels, 0, -1)
