"""``deformsample info``: show the cards of checkpoints."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from deformsample.cli.failures import one_line
from deformsample.errors import ArgumentError, CheckpointError
from deformsample.files.writing import atomic_write

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from deformsample.plotting.budget import MeasuredPoint

_ERROR = "val/segmentation"
"""The metric in cards that error curves predict."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument("models", metavar="MODEL", nargs="+", help="checkpoint, or shipped model")
    parser.add_argument(
        "--figure",
        type=Path,
        metavar="FILE",
        help="draw the predictions of the first checkpoint for other numbers of samples, with the "
        "measured errors of all checkpoints",
    )


def run(options: argparse.Namespace) -> None:
    """Print the cards of checkpoints."""
    from deformsample.checkpoints.card import card
    from deformsample.checkpoints.sources import find_model, read_model

    paths = [find_model(model) for model in options.models]
    contents = [read_model(path) for path in paths]
    for index, (path, content) in enumerate(zip(paths, contents, strict=True)):
        with _card_of(path):
            lines = list(card(path, content))
        width = max(len(name) for name, _ in lines)
        if index:
            print()
        for name, value in lines:
            print(one_line(f"{name:{width}}  {value}"))
    if options.figure is not None:
        figure = _figure(paths, contents)
        with atomic_write(options.figure) as partial:
            figure.savefig(partial, dpi=150)
        print(options.figure)


@contextmanager
def _card_of(path: Path) -> Iterator[None]:
    """Report an invalid card with the name of its file."""
    try:
        yield
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"Cannot read the card of {path}: {error}") from None


def _figure(paths: Sequence[Path], contents: Sequence[Mapping[str, Any]]) -> Figure:
    from deformsample.plotting.budget import budget_figure

    with _card_of(paths[0]):
        curve = contents[0]["deformsample"].get("card", {}).get("budget_curve")
    if curve is None:
        raise ArgumentError(
            f"Expected a checkpoint with error curves for `--figure`, but {paths[0]} has none: "
            "train with `method/error_curves.yaml`."
        )
    with _card_of(paths[0]):
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
    from deformsample.plotting.budget import MeasuredPoint

    described = content["deformsample"]
    error = described.get("card", {}).get("metrics", {}).get(_ERROR)
    sampler = _downsampler(content).get("sampler")
    if error is None or sampler is None:
        return None
    is_uniform = str(sampler.get("class_path")).endswith(".UniformSampler")
    return MeasuredPoint("uniform" if is_uniform else "learned", _samples(content), float(error))


def _samples(content: Mapping[str, Any]) -> int:
    size = _downsampler(content)["sampled_size"]
    return int(size if isinstance(size, int) else math.prod(size))


def _downsampler(content: Mapping[str, Any]) -> Mapping[str, Any]:
    """The arguments of the downsampler; empty without one."""
    from deformsample.checkpoints.archive import PARTS

    part = next(part for part in PARTS if part in content["deformsample"])
    arguments = content["deformsample"][part]["init_args"].get("downsampler") or {}
    described: Mapping[str, Any] = arguments.get("init_args", {})
    return described
