"""``deformsample info``: what a checkpoint is."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from deformsample.checkpoint import read_checkpoint
from deformsample.cli.errors import one_line
from deformsample.errors import ArgumentError, CheckpointError
from deformsample.metrics import equivalent_budget
from deformsample.plotting.budget import MeasuredPoint, budget_figure
from deformsample.writing import whole_file

_ERROR = "val/segmentation"
"""What a card calls the error at full resolution that error curves predict."""


def add_info(commands: Any) -> argparse.ArgumentParser:
    """Options of ``deformsample info``."""
    command: argparse.ArgumentParser = commands.add_parser(
        "info",
        help="what a checkpoint is, how well it does, and what other numbers of samples would give",
    )
    command.add_argument("checkpoints", metavar="CKPT", type=Path, nargs="+")
    command.add_argument(
        "--figure",
        type=Path,
        metavar="FILE",
        help="draw what the first checkpoint predicts for other numbers of samples, with the "
        "measured errors of all of them",
    )
    command.set_defaults(run=_info)
    return command


def _info(options: argparse.Namespace) -> None:
    contents = [read_checkpoint(path) for path in options.checkpoints]
    for number, (path, content) in enumerate(zip(options.checkpoints, contents, strict=True)):
        with _card_of(path):
            lines = list(card(path, content))
        width = max(len(name) for name, _ in lines)
        if number:
            print()
        for name, value in lines:
            print(one_line(f"{name:{width}}  {value}"))
    if options.figure is not None:
        figure = _figure(options.checkpoints, contents)
        with whole_file(options.figure) as partial:
            figure.savefig(partial, dpi=150)
        print(options.figure)


@contextmanager
def _card_of(path: Path) -> Iterator[None]:
    """Tell of a card that holds something else than it should, by the name of its file."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"Expected a card as this package's training writes it, but that of {path} cannot be "
            f"read: {error}"
        ) from None


def card(path: Path, content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The lines of a checkpoint's card: a name and a value each.

    Args:
        path: of the file.
        content: what it holds.
    """
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
        parts = sampler.get("init_args", {})
        if network := parts.get("network"):
            yield "sampler's network", _name(network)
        if grid := parts.get("grid"):
            yield "grid", _name(grid)
    else:
        yield "segmenter", _name(described["segmenter"])
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
    if curve := written.get("budget_curve"):
        yield from _predictions(curve)


def _predictions(curve: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What the error curves say, in the lines of a card."""
    at = curve["budgets"].index(1.0)
    worth = equivalent_budget(curve)
    more = f"more than {curve['budgets'][-1]:g}" if math.isinf(worth) else f"{worth:.1f}"
    yield (
        "predicted error",
        f"{curve['sampled'][at]:.2f} of that of uniform sampling with as many samples",
    )
    yield "predicted worth", f"that of {more} times as many uniform samples"
    yield "elasticity", f"{curve['elasticity']:.2f}: per cent less error for 1 % more samples"
    for budget, uniform, sampled in zip(
        curve["budgets"], curve["uniform"], curve["sampled"], strict=True
    ):
        yield (
            f"with {budget:g} x the samples",
            f"error {sampled:.2f} (uniform sampling {uniform:.2f})",
        )


def _figure(paths: Sequence[Path], contents: Sequence[Mapping[str, Any]]) -> Figure:
    with _card_of(paths[0]):
        curve = contents[0]["deformsample"].get("card", {}).get("budget_curve")
        if curve is None:
            raise ArgumentError(
                f"Expected a checkpoint with error curves for `--figure`, but {paths[0]} has none: "
                "train with `method/error_curves.yaml`."
            )
        samples, at = _samples(contents[0]), curve["budgets"].index(1.0)
    measured = []
    for path, content in zip(paths, contents, strict=True):
        with _card_of(path):
            measured += [] if (point := _measured(content)) is None else [point]
    reference = next((p.error for p in measured if p[:2] == ("uniform", samples)), None)
    if reference is None and measured:
        reference = measured[0].error / curve["sampled"][at]
    points = [p._replace(error=p.error / (reference or 1.0)) for p in measured]
    with _card_of(paths[0]):
        return budget_figure(curve, samples, points)


def _measured(content: Mapping[str, Any]) -> MeasuredPoint | None:
    described = content["deformsample"]
    error = described.get("card", {}).get("metrics", {}).get(_ERROR)
    sampler = described["segmenter"].get("init_args", {}).get("sampler")
    if error is None or sampler is None:
        return None
    is_uniform = str(sampler.get("class_path")).endswith(".UniformSampler")
    return MeasuredPoint("uniform" if is_uniform else "learned", _samples(content), float(error))


def _samples(content: Mapping[str, Any]) -> int:
    size = content["deformsample"]["segmenter"]["init_args"]["sampled_size"]
    return int(size if isinstance(size, int) else math.prod(size))


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
