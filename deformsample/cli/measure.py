"""``deformsample measure``: measure accuracy, upper bound and cost of models."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path

from deformsample.files.writing import atomic_write


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.description = "Measure models on all images of a split: one as JSON, several as a table."
    parser.add_argument("models", metavar="MODEL", nargs="+", help="checkpoint, or shipped model")
    parser.add_argument("--config", required=True, help="config with a data set, or of the run")
    parser.add_argument("--root", help="folder of the data")
    parser.add_argument("--split", default="val", choices=("train", "val", "test"))
    parser.add_argument(
        "--boundary-width",
        type=int,
        default=4,
        help="band of the boundary IoU (%(default)s pixels)",
    )
    parser.add_argument(
        "--guided",
        action="store_true",
        help="boundaries between samples follow the colours of the image",
    )
    parser.add_argument("--cost", action="store_true", help="only time and memory of one image")
    parser.add_argument("--output", type=Path, metavar="JSON", help="file to write to")


def run(options: argparse.Namespace) -> None:
    """Measure models on a split."""
    from deformsample.checkpoints.archive import check_classes
    from deformsample.data import SegmentationSplit
    from deformsample.data.from_config import build_data, class_groups, read_config
    from deformsample.evaluation.accuracy import accuracy
    from deformsample.evaluation.cost import cost
    from deformsample.inference.loading import load
    from deformsample.inference.model import SegmentationModel

    models = {
        name: load(name, options.device, options.trust, kind=SegmentationModel)
        for name in options.models
    }
    content = read_config(options.config)
    data = build_data(content, options.root, options.config)
    for name, model in models.items():
        check_classes(model.classes, data.classes, name, options.config)
    split = SegmentationSplit(data.dataset, data.splits[options.split], (), data.cache)
    groups = class_groups(content)
    scores = {
        name: cost(model.segmenter, split, guided=options.guided)
        if options.cost
        else accuracy(model.segmenter, split, groups, options.boundary_width, guided=options.guided)
        for name, model in models.items()
    }
    first, *others = scores.values()
    text = json.dumps(scores if others else first, indent=1)
    if options.output is not None:
        with atomic_write(options.output) as partial:
            partial.write_text(text + "\n", encoding="utf-8")
    elif others:
        print(f"{len(split)} images of the split {options.split}")
        print(score_table(scores))
    else:
        print(text)


def score_table(scores: Mapping[str, Mapping[str, float]]) -> str:
    """Lines of text: a row per score, a column per model, named by the end of its path."""
    titles = _shortest(list(scores))
    rows = list(dict.fromkeys(name for row in scores.values() for name in row))
    first = max(map(len, rows))
    widths = [max(len(title), 7) for title in titles]
    head = " " * first + "".join(f"  {t:>{w}}" for t, w in zip(titles, widths, strict=True))
    lines = [
        f"{name:{first}}"
        + "".join(
            f"  {f'{row[name]:.4f}' if name in row else '':>{width}}"
            for row, width in zip(scores.values(), widths, strict=True)
        )
        for name in rows
    ]
    return "\n".join([head, *lines])


def _shortest(names: list[str]) -> list[str]:
    """Names without the folders and endings that they have in common."""
    parts = [Path(name).parts for name in names]
    if len(set(parts)) == 1 or any(len(p) != len(parts[0]) for p in parts):
        return names
    differing = [i for i, column in enumerate(zip(*parts, strict=True)) if len(set(column)) > 1]
    return ["/".join(p[differing[0] : differing[-1] + 1]) for p in parts]
