"""Common options of commands, and config files by name."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from deformsample.files.configs import find_config, read_mapping


def add_common(parser: argparse.ArgumentParser) -> None:
    """Options of every command, except those of Lightning."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: a GPU if there is one)")
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="further package whose networks a checkpoint may name; can be repeated",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def resolve_configs(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Find every ``--config`` in the working directory or among the shipped configs.

    Returns:
        The arguments with the paths of the files, and the stems of the configs.

    Raises:
        ArgumentError: no such file.
    """
    resolved: list[str] = []
    names: list[str] = []
    pending = iter(arguments)
    for argument in pending:
        option, equals, value = argument.partition("=")
        if option not in ("--config", "-c"):
            resolved.append(argument)
            continue
        value = value if equals else next(pending, "")
        file = find_config(value)
        names.append(file.stem)
        resolved += ["--config", str(file)]
    return resolved, names


def named_task(arguments: Sequence[str]) -> str:
    """The last ``task`` of the configs or ``--task``, by default ``segmentation``.

    Args:
        arguments: arguments of :func:`resolve_configs`.
    """
    tasks = ["segmentation"]
    for option, value in zip(arguments, [*arguments[1:], ""], strict=True):
        if option == "--config":
            tasks += _task_in(Path(value))
    for option, value in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, inline = option.partition("=")
        if name == "--task":
            tasks.append(inline if equals else value)
    return tasks[-1]


def _task_in(config: Path) -> list[str]:
    content = read_mapping(config)
    return [str(content["task"])] if "task" in content else []
