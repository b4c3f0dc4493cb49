"""``deformsample measure``: accuracy, ceiling and cost of a checkpoint."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from deformsample.files.writing import whole_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("checkpoint", metavar="CKPT", help="last.ckpt or best.ckpt of a run")
    parser.add_argument("--config", required=True, help="config with a data set, or of the run")
    parser.add_argument("--root", help="folder of the data")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument(
        "--boundary-width", type=int, default=4, help="of the boundary IoU, in pixels (%(default)s)"
    )
    parser.add_argument("--cost", action="store_true", help="time and memory only, of one image")
    parser.add_argument("--output", type=Path, metavar="JSON", help="file to write to")


def run(options: argparse.Namespace) -> None:
    """Measure a checkpoint on a split."""
    from deformsample.data import SplitDataset
    from deformsample.data.from_config import build_data, merged_classes, read_config
    from deformsample.evaluation.accuracy import accuracy
    from deformsample.evaluation.cost import cost
    from deformsample.inference.model import load

    model = load(options.checkpoint, options.device, options.trust)
    content = read_config(options.config)
    data = build_data(content, options.root, options.config)
    part = SplitDataset(data.dataset, data.dataset.samples(options.split), (), data.cache)
    if options.cost:
        result = cost(model.segmenter, part)
    else:
        merged = merged_classes(content)
        result = accuracy(model.segmenter, part, merged, options.boundary_width)
    text = json.dumps(result, indent=1)
    if options.output is None:
        print(text)
        return
    with whole_file(options.output) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
