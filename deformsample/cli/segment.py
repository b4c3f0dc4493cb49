"""``deformsample segment``: write the label map of each image."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from deformsample.cli.batch import add_batch_arguments, process_each
from deformsample.cli.failures import one_line
from deformsample.cli.focus import add_focus_arguments, focus_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("model", metavar="CKPT", help="last.ckpt or best.ckpt of a run")
    add_batch_arguments(parser)
    add_focus_arguments(parser)
    parser.add_argument(
        "--guided",
        action="store_true",
        help="boundaries between samples follow the colours of the image",
    )
    parser.add_argument(
        "--overlay",
        action="store_true",
        help="also write the images with the colours of their classes, to DIR/overlays",
    )


def run(options: argparse.Namespace) -> None:
    """Segment every image."""
    from tqdm import tqdm

    from deformsample.files.images import read_image, write_image
    from deformsample.files.label_maps import overlay, palette, write_indexed
    from deformsample.files.label_tiff import write_label_tiff
    from deformsample.files.slides import is_large
    from deformsample.inference.inputs import open_source
    from deformsample.inference.loading import load
    from deformsample.inference.model import SegmentationModel

    focus = focus_of(options)
    model = load(options.model, options.device, options.trust, kind=SegmentationModel)
    colours = palette(model.classes)

    def work(source: Path, target: Path) -> None:
        if is_large(source):
            with open_source(source, model.device) as image:
                bands = model.label_bands(image, focus=focus, guided=options.guided)
                write_label_tiff(bands, image.size, model.classes, target)
            if options.overlay:
                reason = "only images that are read whole have overlays"
                tqdm.write(one_line(f"no overlay of {source}: {reason}"), file=sys.stderr)
            return
        pixels = read_image(source)
        labels = model.segment(pixels, focus=focus, guided=options.guided)
        if options.overlay:
            write_image(_overlay_file(target), overlay(pixels, labels, colours))
        write_indexed(target, labels, colours)

    def is_done(source: Path, target: Path) -> bool:
        needs_overlay = options.overlay and not is_large(source)
        return target.is_file() and (not needs_overlay or _overlay_file(target).is_file())

    def suffix(source: Path) -> str:
        return ".tif" if is_large(source) else ".png"

    process_each(options, work, suffix, is_done)


def _overlay_file(target: Path) -> Path:
    """The overlay of a label map, in a folder of its own: other commands read whole folders."""
    return target.parent / "overlays" / f"{target.stem}.jpg"
