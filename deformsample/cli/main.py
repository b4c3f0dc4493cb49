"""The command ``deformsample``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import torch
from matplotlib.figure import Figure
from torch import Tensor

from deformsample import __version__
from deformsample.cli.benchmark import add_benchmark, add_measure
from deformsample.cli.data import build_data, read_config
from deformsample.cli.errors import reported
from deformsample.cli.images import add_image_commands
from deformsample.cli.info import add_info
from deformsample.cli.train import SUBCOMMANDS
from deformsample.cli.train import main as train
from deformsample.data import SplitDataset
from deformsample.errors import ArgumentError
from deformsample.evaluation import confusion
from deformsample.inference import as_batch, load
from deformsample.metrics import class_iou
from deformsample.plotting import (
    SampledPicture,
    comparison_figure,
    differing_places,
    zoom_figure,
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given and given[0] in SUBCOMMANDS:
        return train(given)
    options = _parser().parse_args(given)
    return reported(lambda: options.run(options), debug=options.debug)


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; ``--help`` says the rest."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see `{self.prog} --help`)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="deformsample",
        description="Learned, content-aware downsampling for images too large to segment whole.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    images = add_image_commands(commands)
    compare = commands.add_parser("compare", help="draw how checkpoints sample and segment")
    compare.add_argument("checkpoints", nargs="+", metavar="CKPT", help="one row each")
    source = compare.add_mutually_exclusive_group(required=True)
    source.add_argument("--image", metavar="FILE", help="an image without truth")
    source.add_argument("--config", help="config with a data set, to take image and truth from")
    compare.add_argument("--root", help="with --config: folder of the data")
    compare.add_argument("--split", default="val", choices=("train", "val", "test"))
    compare.add_argument("--index", type=int, default=0, help="number of the image in its split")
    compare.add_argument("--output", required=True, metavar="PNG", type=Path)
    compare.add_argument(
        "--places",
        type=Path,
        metavar="PNG",
        help="with --config: also draw, at full resolution, where the first two differ most",
    )
    _common(compare)
    compare.set_defaults(run=_compare)
    for command in (*images, add_info(commands), add_measure(commands), add_benchmark(commands)):
        _common(command)
    for name, purpose in SUBCOMMANDS.items():
        # main() passes these on before parsing; here they are only listed.
        commands.add_parser(name, add_help=False, help=purpose)
    return parser


def _common(command: argparse.ArgumentParser) -> None:
    default = "cuda" if torch.cuda.is_available() else "cpu"
    command.add_argument("--device", default=default, help="cpu, cuda, cuda:1 ... (%(default)s)")
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")


def _compare(options: argparse.Namespace) -> None:
    models = [load(file, options.device) for file in options.checkpoints]
    classes = models[0].classes
    if any(list(model.classes) != list(classes) for model in models):
        raise ArgumentError("Expected checkpoints with the same classes, but they differ.")
    image, truth = _image_and_truth(options)
    pictures = [model.picture(image, model.segmenter.sampler.title) for model in models]
    if options.places is not None:
        if truth is None or len(pictures) < 2:
            raise ArgumentError(
                "Expected `--config` and at least two checkpoints with `--places`: it draws where "
                "two differ most from the truth."
            )
        shown = [replace(picture, labels=picture.labels.cpu()) for picture in pictures]
        side = max(1, min(truth.shape) // 8)
        places = differing_places(shown[0].labels, shown[1].labels, truth, side, count=3)
        if places:
            _write(zoom_figure(image, truth, shown, classes, places), options.places)
        else:
            print(f"The first two agree on every pixel: nothing to draw in {options.places}")
    if truth is not None:
        pictures = [_scored(picture, truth, list(classes)) for picture in pictures]
    _write(comparison_figure(image, truth, pictures, classes), options.output)


def _scored(picture: SampledPicture, truth: Tensor, names: Sequence[str]) -> SampledPicture:
    """Print the IoUs, and add their mean to the title."""
    scores = class_iou(confusion(picture.labels.cpu(), truth, len(names)))
    _print_scores(picture.title, names, scores)
    return replace(picture, title=f"{picture.title}, mean IoU {float(scores.nanmean()):.3f}")


def _write(figure: Figure, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110)
    print(target)


def _image_and_truth(options: argparse.Namespace) -> tuple[Tensor, Tensor | None]:
    if options.image is not None:
        return as_batch(options.image)[0], None
    data = build_data(read_config(options.config).get("data", {}), options.root)
    samples = data.dataset.samples(options.split)
    if not 0 <= options.index < len(samples):
        raise ArgumentError(
            f"Expected `--index` from 0 to {len(samples) - 1} for the split {options.split!r}, but "
            f"got {options.index}."
        )
    item = SplitDataset(data.dataset, samples)[options.index]
    return item["image"], item["labels"]


def _print_scores(title: str, names: Iterable[str], scores: Tensor) -> None:
    listed = ", ".join(
        f"{name} {score:.3f}"
        for name, score in zip(names, scores.tolist(), strict=True)
        if score == score  # not NaN: the class occurs
    )
    print(f"{title}: IoU of {listed}; mean {float(scores.nanmean()):.3f}")
