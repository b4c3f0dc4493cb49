"""The command ``deformsample``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

import torch

from deformsample import __version__
from deformsample.cli.benchmark import add_benchmark, add_measure
from deformsample.cli.check import add_check
from deformsample.cli.compare import add_compare
from deformsample.cli.export import add_export
from deformsample.cli.failures import reported
from deformsample.cli.images import add_image_commands
from deformsample.cli.info import add_info
from deformsample.cli.tiles import add_tiles
from deformsample.cli.train import SUBCOMMANDS
from deformsample.cli.train import main as train


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
    others = (
        add_compare,
        add_export,
        add_info,
        add_check,
        add_measure,
        add_benchmark,
        add_tiles,
    )
    for command in (*images, *(add(commands) for add in others)):
        _common(command)
    for name, purpose in SUBCOMMANDS.items():
        # main() passes these on before parsing; here they are only listed.
        commands.add_parser(name, add_help=False, help=purpose)
    return parser


def _common(command: argparse.ArgumentParser) -> None:
    default = "cuda" if torch.cuda.is_available() else "cpu"
    command.add_argument("--device", default=default, help="cpu, cuda, cuda:1 ... (%(default)s)")
    command.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="of your own, whose networks a checkpoint may name; can be repeated",
    )
    command.add_argument("--debug", action="store_true", help="show the traceback of an error")
