"""``deformsample info``: what a checkpoint is."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deformsample.checkpoint import read_checkpoint
from deformsample.cli.errors import one_line
from deformsample.errors import CheckpointError


def add_info(commands: Any) -> argparse.ArgumentParser:
    """Options of ``deformsample info``."""
    command: argparse.ArgumentParser = commands.add_parser(
        "info", help="what a checkpoint is, what it was trained on, and how well it does"
    )
    command.add_argument("checkpoint", metavar="CKPT", type=Path)
    command.set_defaults(run=_info)
    return command


def _info(options: argparse.Namespace) -> None:
    try:
        lines = list(card(options.checkpoint))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"Expected a card as this package's training writes it, but that of "
            f"{options.checkpoint} cannot be read: {error}"
        ) from None
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        print(one_line(f"{name:{width}}  {value}"))


def card(path: Path) -> Iterator[tuple[str, str]]:
    """The lines of a checkpoint's card: a name and a value each.

    Raises:
        CheckpointError: not a checkpoint of this package.
    """
    content = read_checkpoint(path)
    described = content["deformsample"]
    arguments: Mapping[str, Any] = described["segmenter"].get("init_args", {})
    sampler = arguments.get("sampler", {})
    weights = content["state_dict"]
    own = [name for name in weights if name.startswith("segmenter.")]
    yield "file", f"{path}, {path.stat().st_size / 1e6:.1f} MB"
    yield "classes", ", ".join(described["classes"])
    if sampler:
        size = arguments.get("sampled_size")
        yield (
            "samples",
            f"at most {size}" if isinstance(size, int) else " x ".join(map(str, size or [])),
        )
        yield "sampler", _name(sampler)
    else:
        yield "segmenter", _name(described["segmenter"])
    if network := sampler.get("init_args", {}).get("network"):
        yield "sampler's network", _name(network)
    yield "network", _name(arguments.get("network", {}))
    yield "parameters", f"{sum(weights[name].numel() for name in own):,}"
    yield "trained", f"{content.get('epoch', -1) + 1} epochs, {content.get('global_step', 0)} steps"
    written: Mapping[str, Any] = described.get("card", {})
    if written.get("data"):
        yield "data", written["data"]
    for name, version in written.get("versions", {}).items():
        yield name, version
    for name, value in written.get("metrics", {}).items():
        yield name, f"{value:.4f}"


def _name(part: Mapping[str, Any]) -> str:
    """A part's class, and its plain arguments."""
    plain = {
        name: value
        for name, value in part.get("init_args", {}).items()
        if not isinstance(value, Mapping) and value is not None
    }
    listed = ", ".join(f"{name} {value}" for name, value in plain.items())
    name = str(part.get("class_path", "?")).rpartition(".")[2]
    return f"{name} ({listed})" if listed else name
