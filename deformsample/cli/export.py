"""``deformsample export``: a checkpoint for programs without this package's models."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from deformsample.errors import ArgumentError
from deformsample.inference.exporter import write_onnx, write_program
from deformsample.inference.loading import load
from deformsample.inference.model import SegmentationModel

_WRITERS = {".onnx": write_onnx, ".pt2": write_program}


def add_export(commands: Any) -> argparse.ArgumentParser:
    """Options of ``deformsample export``."""
    command: argparse.ArgumentParser = commands.add_parser(
        "export",
        help="write a checkpoint as ONNX or for torch.export, for images of one size",
        description="Write a checkpoint as one graph, from an image (1, 3, H, W) uint8 to logits "
        "at its samples and their grid; `deformsample.kernels.unwarp_labels` makes these the label "
        "of every pixel, without torch.",
    )
    command.add_argument("checkpoint", metavar="CKPT", help="last.ckpt or best.ckpt of a run")
    command.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        type=Path,
        help="file to write to: .onnx, or .pt2 for torch.export",
    )
    command.add_argument(
        "--image-size",
        required=True,
        nargs=2,
        type=int,
        metavar=("H", "W"),
        help="height and width of the images to come",
    )
    command.set_defaults(run=_export)
    return command


def _export(options: argparse.Namespace) -> None:
    write = _WRITERS.get(options.output.suffix)
    if write is None:
        raise ArgumentError(
            f"Expected `--output` to end in {' or '.join(_WRITERS)}, but got {options.output}."
        )
    height, width = options.image_size
    write(
        load(options.checkpoint, options.device, options.trust, kind=SegmentationModel),
        (height, width),
        options.output,
    )
    print(options.output)
