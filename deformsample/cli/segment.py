"""``deformsample segment``: write the label map of each image."""

from __future__ import annotations

import argparse
from pathlib import Path

from deformsample.cli.batch import add_batch_arguments, process_each


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("model", metavar="CKPT", help="last.ckpt or best.ckpt of a run")
    add_batch_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Segment every image."""
    from deformsample.files.label_maps import palette, write_indexed
    from deformsample.files.label_tiff import write_label_tiff
    from deformsample.files.slides import is_large
    from deformsample.inference.inputs import open_source
    from deformsample.inference.loading import load
    from deformsample.inference.model import SegmentationModel

    model = load(options.model, options.device, options.trust, kind=SegmentationModel)
    colours = palette(model.classes)

    def work(source: Path, target: Path) -> None:
        if is_large(source):
            with open_source(source, model.device) as image:
                write_label_tiff(model.label_bands(image), image.size, model.classes, target)
        else:
            write_indexed(target, model.segment(source), colours)

    process_each(options, work, suffix=lambda source: ".tif" if is_large(source) else ".png")
