"""``deformsample demo``: the shipped models on shipped images."""

from __future__ import annotations

import argparse
from pathlib import Path

from deformsample.cli.arguments import add_common

_MODELS = ["blue-marble", "blue-marble-uniform"]
_DATA = ["--config", "quickstart.yaml", "--split", "test"]
_INDEX = "0"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.description = (
        "Segment satellite images with the models that come with the package, with learned and "
        "with uniform sampling. Needs no data and no network connection."
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("demo.html"),
        metavar="PAGE",
        help="page or picture to write, .html or .png (%(default)s)",
    )


def run(options: argparse.Namespace) -> None:
    """Measure the shipped models on held-out images, and compare them on one of these."""
    from deformsample.cli import compare, measure

    device = [] if options.device is None else ["--device", options.device]
    for command, arguments in (
        (measure, []),
        (compare, ["--index", _INDEX, "--output", str(options.output)]),
    ):
        parser = argparse.ArgumentParser()
        command.add_arguments(parser)
        add_common(parser)
        command.run(parser.parse_args([*_MODELS, *_DATA, *arguments, *device]))
    print(f"In Python: deformsample.load({_MODELS[0]!r}).segment('photo.jpg')")
