"""``deformsample downsample``: images as small PNG files with embedded sampling grids."""

from __future__ import annotations

import argparse
from pathlib import Path

from deformsample.cli.batch import add_batch_arguments, process_each
from deformsample.cli.focus import add_focus_arguments, focus_of
from deformsample.errors import ArgumentError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.description = (
        "Write each image as a small PNG with its sampling grid. "
        "`deformsample restore` restores it to full size."
    )
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="checkpoint, or an untrained sampler: `detail` (more samples where the image has "
        "detail) or `uniform`",
    )
    parser.add_argument(
        "--pixels",
        type=int,
        metavar="N",
        help="maximum number of samples for `detail` and `uniform` (default: 1 of 64 pixels)",
    )
    add_batch_arguments(parser)
    add_focus_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Downsample every image."""
    import torch

    from deformsample.checkpoints.sources import shipped_models
    from deformsample.files.sampled_png import SampledImage, write_sampled
    from deformsample.inference.inputs import open_source
    from deformsample.inference.loading import (
        UNTRAINED,
        chosen_device,
        default_budget,
        load,
        untrained,
    )
    from deformsample.samplers import as_pixels

    if options.pixels is not None and options.model not in UNTRAINED:
        raise ArgumentError(
            "Expected `--pixels` only with `detail` or `uniform`, but got it with "
            f"{options.model}: a checkpoint sets the number of samples."
        )
    if options.pixels is not None and options.pixels < 4:
        raise ArgumentError(f"Expected `--pixels` of at least 4, but got {options.pixels}.")
    known = (*UNTRAINED, *shipped_models())
    if options.model not in known and not Path(options.model).expanduser().exists():
        raise ArgumentError(
            f"Expected a checkpoint, or one of {', '.join(known)}, but there is no file "
            f"{options.model}."
        )
    focus = focus_of(options)
    device = chosen_device(options.device)
    trained = None
    if options.model not in UNTRAINED:
        trained = load(options.model, device, options.trust).downsampler

    @torch.inference_mode()
    def work(source: Path, target: Path) -> None:
        with open_source(source, device) as image:
            size = image.size
            downsampler = trained or untrained(
                options.model, options.pixels or default_budget(size)
            ).to(device)
            sampled = downsampler(image, focus=focus)
        tensors = (sampled.image, sampled.grid, sampled.density)
        small, grid, density = (t[0].cpu() for t in tensors)
        content = SampledImage(as_pixels(small), grid.numpy(), density[0].numpy(), size)
        write_sampled(target, content)

    process_each(options, work)
