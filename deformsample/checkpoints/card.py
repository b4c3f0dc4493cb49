"""The model card of a checkpoint, and its lines of text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from deformsample.checkpoints.archive import PARTS


def model_card(data: str | None, measured: Mapping[str, Tensor | float]) -> dict[str, Any]:
    """The model card of a training.

    Args:
        data: class name of the data set.
        measured: last logged metrics; the card keeps those of validation and test.
    """
    return {
        "data": data,
        "metrics": {k: float(v) for k, v in measured.items() if k.startswith(("val/", "test/"))},
        "versions": {
            name: version(name) for name in ("deformsample", "torch", "pytorch-lightning")
        },
    }


def card(path: Path, content: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The lines of a model card: names and values.

    Args:
        path: path of the checkpoint or folder.
        content: content of the checkpoint.
    """
    described = content["deformsample"]
    part = next(part for part in PARTS if part in described)
    arguments: Mapping[str, Any] = described[part].get("init_args", {})
    weights = content["state_dict"]
    trained = [name for name in weights if name.startswith(f"{part}.")]
    files = path.iterdir() if path.is_dir() else [path]
    yield "file", f"{path}, {sum(file.stat().st_size for file in files) / 1e6:.1f} MB"
    yield "classes", ", ".join(described["classes"])
    if downsampler := arguments.get("downsampler", {}).get("init_args", {}):
        size, sampler = downsampler.get("sampled_size"), downsampler["sampler"]
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
        yield part, _name(described[part])
    yield "network", _name(arguments.get("network", {}))
    yield "parameters", f"{sum(weights[name].numel() for name in trained):,}"
    if "global_step" in content:
        yield "trained", f"{content['epoch'] + 1} epochs, {content['global_step']} steps"
    written: Mapping[str, Any] = described.get("card", {})
    if written.get("data"):
        yield "data", written["data"]
    yield from written.get("versions", {}).items()
    for name, value in written.get("metrics", {}).items():
        yield name, f"{value:.4f}"
    if curve := written.get("budget_curve"):
        yield from _predictions(curve)


def _predictions(curve: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The lines of a model card about error curves."""
    at = curve["budgets"].index(1.0)
    worth = _equivalent_budget(curve)
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


def _equivalent_budget(curve: Mapping[str, Sequence[float]]) -> float:
    """The relative number of uniform samples with the same predicted error.

    Args:
        curve: budget curve of a card.

    Returns:
        Log-interpolated; infinite beyond the largest budget of the curve.
    """
    error = math.log(curve["sampled"][list(curve["budgets"]).index(1.0)])
    budgets, uniform = np.log(curve["budgets"]), np.log(curve["uniform"])
    if error < uniform[-1]:
        return math.inf
    return float(np.exp(np.interp(error, uniform[::-1], budgets[::-1])))


def _name(part: Mapping[str, Any]) -> str:
    """Class name and plain arguments of a configured object."""
    plain = {
        name: value
        for name, value in part.get("init_args", {}).items()
        if not isinstance(value, Mapping) and value is not None
    }
    listed = ", ".join(f"{name} {value}" for name, value in plain.items())
    name = str(part.get("class_path", "?")).rpartition(".")[2]
    return f"{name} ({listed})" if listed else name
