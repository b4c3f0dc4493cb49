"""``deformsample downsample``: images as small PNG files with embedded sampling grids."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from deformsample.cli.batch import add_batch_arguments, process_each
from deformsample.errors import ArgumentError

if TYPE_CHECKING:
    from deformsample.conventions import Size
    from deformsample.samplers.downsampler import Downsampler


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.description = (
        "Write each image as a small PNG, which holds the places of its samples too: "
        "`deformsample restore` brings it back to full size."
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="checkpoint of a run; or without any training: `detail` (many samples where the image "
        "has detail) or `uniform`",
    )
    parser.add_argument(
        "--pixels",
        type=int,
        metavar="N",
        help="with `detail` and `uniform`: so many samples at most (default: 1 of 64 pixels)",
    )
    add_batch_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Downsample every image."""
    import torch

    from deformsample.files.sampled_png import SampledImage, write_sampled
    from deformsample.files.slides import is_large, open_large
    from deformsample.inference.loading import (
        UNTRAINED,
        default_budget,
        untrained,
        usable_device,
    )
    from deformsample.inference.model import as_batch, load
    from deformsample.large import downsample_large
    from deformsample.samplers.image_source import as_pixels

    if options.pixels is not None and options.model not in UNTRAINED:
        raise ArgumentError(
            "Expected `--pixels` with `detail` or `uniform` only: a checkpoint has its own budget."
        )
    if options.pixels is not None and options.pixels < 4:
        raise ArgumentError(f"Expected `--pixels` of at least 4, but got {options.pixels}.")
    device = usable_device(options.device)
    is_trained = options.model not in UNTRAINED
    trained = load(options.model, device, options.trust) if is_trained else None

    def downsampler(size: Size) -> Downsampler:
        if trained is not None:
            return trained.downsampler
        return untrained(options.model, options.pixels or default_budget(size)).to(device)

    def work(source: Path, target: Path) -> None:
        if is_large(source):
            with open_large(source) as large:
                size = large.size
                sampled = downsample_large(downsampler(size), large)
        else:
            image = as_batch(source).to(device)
            size = (image.shape[2], image.shape[3])
            with torch.inference_mode():
                sampled = downsampler(size).downsample(image)
        of_image = (sampled.image, sampled.grid, sampled.density)
        small, grid, density = (t[0].cpu() for t in of_image)
        content = SampledImage(as_pixels(small), grid.numpy(), density[0].numpy(), size)
        write_sampled(target, content)

    process_each(options, work)
