"""Building what checkpoints describe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from jsonargparse import ArgumentParser
from torch import Tensor, nn

from deformsample.errors import ArgumentError, CheckpointError

Part = TypeVar("Part", bound=nn.Module)


def build_part(kind: type[Part], architecture: Mapping[str, Any], source: object) -> Part:
    """Make a segmenter or a classifier from class paths and arguments.

    Args:
        kind: which of them.
        architecture: ``class_path`` and ``init_args`` of a subclass.
        source: what an error names.
    """
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--part", type=kind)
    try:
        parsed = parser.parse_object({"part": dict(architecture)})
        built = parser.instantiate(parsed).part
    except Exception as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"Expected {source} to describe a {kind.__name__.lower()} that this version can "
            f"build, but: {reason}"
        ) from None
    assert isinstance(built, kind)
    return built


def load_weights_into(part: nn.Module, weights: Mapping[str, Tensor], source: object) -> None:
    """Fill a segmenter or a classifier with the weights of a checkpoint.

    Raises:
        CheckpointError: they do not fit.
    """
    try:
        part.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"Expected weights that fit the {type(part).__name__} of {source}, but: {reason}"
        ) from None


def check_device(device: str | torch.device) -> None:
    """Make sure that there is the device.

    Raises:
        ArgumentError: there is none.
    """
    if torch.device(device).type == "cuda" and not torch.cuda.is_available():
        raise ArgumentError(f"Expected a device of this machine, but {device!r} is not available.")
