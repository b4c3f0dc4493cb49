"""Options that all commands have; config files by name, and the task that they describe."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from deformsample.files.configs import find_config, read_mapping


def add_common(parser: argparse.ArgumentParser) -> None:
    """Options that every command has, but for those of Lightning."""
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (default: a GPU if there is one)")
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="of your own, whose networks a checkpoint may name; can be repeated",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def resolve_configs(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Find every ``--config`` in the working directory, or else among the shipped configs.

    Returns:
        The arguments with the found paths, and the stems of the configs.

    Raises:
        ArgumentError: no such file in either place.
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
        found = find_config(value)
        names.append(found.stem)
        resolved += ["--config", str(found)]
    return resolved, names


def named_task(arguments: Sequence[str]) -> str:
    """The ``task`` of the last config that names one, or of ``--task``; else ``segmentation``.

    Args:
        arguments: as :func:`resolve_configs` gives them.
    """
    tasks = ["segmentation"]
    for option, value in zip(arguments, [*arguments[1:], ""], strict=True):
        if option == "--config":
            tasks += _task_in(Path(value))
    for option, value in zip(arguments, [*arguments[1:], ""], strict=True):
        name, equals, own = option.partition("=")
        if name == "--task":
            tasks.append(own if equals else value)
    return tasks[-1]


def _task_in(config: Path) -> list[str]:
    content = read_mapping(config)
    return [str(content["task"])] if "task" in content else []
