"""The command ``deformsample``.

The module of a command is imported only for that command, and imports torch in its functions, so
that ``--help`` is fast.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from deformsample import __version__
from deformsample.cli.arguments import add_common
from deformsample.cli.failures import reported

COMMANDS = {
    "demo": "segment shipped images with shipped models, and compare them with uniform sampling",
    "downsample": "downsample images to PNG files with their sampling grids",
    "segment": "write the label map of each image",
    "restore": "restore images of `downsample` to full size; needs no checkpoint",
    "compare": "compare how methods sample, restore and segment an image",
    "check": "read a whole data set, and list all errors",
    "measure": "measure accuracy, upper bound and cost of models",
    "benchmark": "train and measure methods, budgets and seeds; can be resumed",
    "tiles": "accuracy, time and memory of a checkpoint on whole images and on tiles",
    "export": "export a checkpoint as ONNX or for torch.export, for images of one size",
    "info": "show architecture, metrics and predictions of checkpoints",
}
"""Modules of this package, with ``add_arguments(parser)`` and ``run(options)``."""

TRAINING = {
    "fit": "train (python train.py)",
    "validate": "measure a checkpoint on the validation split",
    "test": "measure a checkpoint on the test split",
    "predict": "write the label maps or scores of a split",
}
"""Commands of :mod:`deformsample.cli.train`."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given and given[0] in TRAINING:
        code: int = import_module("deformsample.cli.train").main(given)
        return code
    command = next((word for word in given if word in COMMANDS), None)
    options = _parser(command).parse_args(given)
    return reported(lambda: options.run(options), debug=options.debug)


class _Parser(argparse.ArgumentParser):
    """A parser that prints errors in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see `{self.prog} --help`)\n")


def _parser(command: str | None) -> argparse.ArgumentParser:
    """The parser of all commands, with the options of one command."""
    parser = _Parser(
        prog="deformsample",
        description="Learned, content-aware downsampling for images too large to segment whole.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, purpose in {**COMMANDS, **TRAINING}.items():
        options = commands.add_parser(name, help=purpose)
        if name == command:
            module = import_module(f"deformsample.cli.{name}")
            module.add_arguments(options)
            add_common(options)
            options.set_defaults(run=module.run)
    return parser
