"""``deformsample measure``: measure accuracy, upper bound and cost of a checkpoint."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from deformsample.files.writing import atomic_write


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("checkpoint", metavar="CKPT", help="last.ckpt or best.ckpt of a run")
    parser.add_argument("--config", required=True, help="config with a data set, or of the run")
    parser.add_argument("--root", help="folder of the data")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument(
        "--boundary-width",
        type=int,
        default=4,
        help="band of the boundary IoU (%(default)s pixels)",
    )
    parser.add_argument("--cost", action="store_true", help="only time and memory of one image")
    parser.add_argument("--output", type=Path, metavar="JSON", help="file to write to")


def run(options: argparse.Namespace) -> None:
    """Measure a checkpoint on a split."""
    from deformsample.checkpoints.archive import check_classes
    from deformsample.data import SegmentationSplit
    from deformsample.data.from_config import build_data, class_groups, read_config
    from deformsample.evaluation.accuracy import accuracy
    from deformsample.evaluation.cost import cost
    from deformsample.inference.loading import load
    from deformsample.inference.model import SegmentationModel

    model = load(options.checkpoint, options.device, options.trust, kind=SegmentationModel)
    content = read_config(options.config)
    data = build_data(content, options.root, options.config)
    check_classes(model.classes, data.classes, options.checkpoint, options.config)
    split = SegmentationSplit(data.dataset, data.splits[options.split], (), data.cache)
    if options.cost:
        result = cost(model.segmenter, split)
    else:
        groups = class_groups(content)
        result = accuracy(model.segmenter, split, groups, options.boundary_width)
    text = json.dumps(result, indent=1)
    if options.output is None:
        print(text)
        return
    with atomic_write(options.output) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
