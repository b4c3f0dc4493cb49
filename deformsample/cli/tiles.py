"""``deformsample tiles``: one checkpoint on whole images and on tiles."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from deformsample.conventions import Size
from deformsample.errors import ArgumentError, DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("checkpoint", metavar="CKPT", help="of a run with method/tiled.yaml")
    parser.add_argument("--config", required=True, help="config with a data set, or of the run")
    parser.add_argument("--root", help="folder of the data")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument("--images", type=int, metavar="N", help="only the first (default: all)")
    parser.add_argument(
        "--tile", nargs="+", metavar="HxW", help="sizes of tiles (default: the checkpoint's)"
    )
    parser.add_argument(
        "--overlap", type=float, nargs="+", default=[0.0, 0.5], help="shares (%(default)s)"
    )
    parser.add_argument(
        "--reference",
        default="whole",
        metavar="HxW",
        help="tiles, without overlap, to compare with where a whole image needs too much memory "
        "(%(default)s)",
    )
    parser.add_argument(
        "--class",
        dest="classes",
        action="append",
        metavar="NAME",
        help="counts as foreground; can be repeated (default: all classes but the first)",
    )
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="folder")


def run(options: argparse.Namespace) -> None:
    """Measure a checkpoint with each setting, and write tables."""
    from deformsample.checkpoints.archive import check_classes
    from deformsample.data import SegmentationSplit
    from deformsample.data.from_config import build_data, read_config
    from deformsample.evaluation.tile_report import (
        difference_histogram,
        tiling_tables,
        write_outcomes,
    )
    from deformsample.evaluation.tile_study import Setting, measure, memory
    from deformsample.inference.loading import load
    from deformsample.inference.model import SegmentationModel
    from deformsample.segmenters import TiledSegmenter

    model = load(options.checkpoint, options.device, options.trust, kind=SegmentationModel)
    segmenter = model.segmenter
    if not isinstance(segmenter, TiledSegmenter):
        raise ArgumentError(
            "Expected a checkpoint whose network works at full resolution (train with "
            f"method/tiled.yaml), but got one of {segmenter.display_name} sampling."
        )
    content = read_config(options.config)
    data = build_data(content, options.root, options.config)
    check_classes(model.classes, data.classes, options.checkpoint, options.config)
    samples = data.splits[options.split][: options.images]
    if not samples:
        raise DataError(f"Expected images in the split {options.split!r}, but found none.")
    part = SegmentationSplit(data.dataset, samples, (), data.cache)
    names = list(data.classes)
    reference = Setting(tile_size(options.reference))
    tiles = [tile_size(text) for text in options.tile or ()] or [segmenter.tile]
    others = [Setting(tile, overlap) for tile in tiles for overlap in options.overlap]
    settings = list(dict.fromkeys([reference, *others]))
    megabytes = memory(segmenter, part, settings)
    outcomes = measure(segmenter, part, settings, _foreground(options.classes, names))
    options.output.mkdir(parents=True, exist_ok=True)
    write_outcomes(outcomes, options.output / "images.csv")
    tables = tiling_tables(outcomes, reference, megabytes, names)
    (options.output / "tiles.md").write_text(tables, encoding="utf-8")
    if len(settings) > 1:
        figure = difference_histogram(outcomes, reference)
        figure.savefig(options.output / "differences.png", dpi=110)
    print(tables)
    print(options.output / "tiles.md")


def tile_size(text: str) -> Size | None:
    """(height, width) from ``HxW``; ``None`` from ``whole``.

    Raises:
        ArgumentError: anything else.
    """
    if text == "whole":
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise ArgumentError(
            f"Expected the height and width of a tile in pixels, as 256x256, or `whole`, but got "
            f"{text!r}."
        )
    return int(match[1]), int(match[2])


def _foreground(wanted: list[str] | None, names: list[str]) -> list[int]:
    if unknown := [name for name in wanted or () if name not in names]:
        raise ArgumentError(f"Expected `--class` of {names}, but got {unknown}.")
    return [names.index(name) for name in wanted] if wanted else list(range(1, len(names)))
