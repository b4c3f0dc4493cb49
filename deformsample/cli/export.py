"""``deformsample export``: export a checkpoint for programs without this package."""

from __future__ import annotations

import argparse
from pathlib import Path

from deformsample.errors import ArgumentError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.description = (
        "Export a checkpoint as one graph, from an image (1, 3, H, W) uint8 to logits at its "
        "samples and their grid. `deformsample.kernels.unwarp_labels` turns them into the label of "
        "every pixel, without torch. With `--unwarp`, the graph returns these labels itself."
    )
    parser.add_argument("checkpoint", metavar="CKPT", help="last.ckpt or best.ckpt of a run")
    parser.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        type=Path,
        help="file to write to: .onnx, or .pt2 for torch.export",
    )
    parser.add_argument(
        "--image-size",
        required=True,
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="height and width of the images",
    )
    parser.add_argument(
        "--unwarp",
        action="store_true",
        help="return the label of every pixel, (1, H, W) uint8, instead of logits",
    )


def run(options: argparse.Namespace) -> None:
    """Export one checkpoint."""
    from deformsample.inference.exporter import write_onnx, write_program
    from deformsample.inference.loading import load
    from deformsample.inference.model import SegmentationModel

    writers = {".onnx": write_onnx, ".pt2": write_program}
    write = writers.get(options.output.suffix)
    if write is None:
        raise ArgumentError(
            f"Expected `--output` to end in {' or '.join(writers)}, but got {options.output}."
        )
    height, width = options.image_size
    write(
        load(options.checkpoint, options.device, options.trust, kind=SegmentationModel),
        (height, width),
        options.output,
        unwarp=options.unwarp,
    )
    print(options.output)
