"""What checkpoints of this package hold."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deformsample.errors import CheckpointError
from deformsample.files.reading import regular_file

_LOADERS = {"segmenter": "deformsample.load", "classifier": "deformsample.load_classifier"}
"""What loads a checkpoint of a trained part."""


def read_checkpoint(path: Path, part: str = "segmenter") -> dict[str, Any]:
    """The content of a checkpoint of this package, without executing code that it may hold.

    Args:
        path: file.
        part: what was trained: a ``segmenter`` or a ``classifier``.

    Raises:
        CheckpointError: no such file, not a checkpoint, or not one of this package.
    """
    regular_file(path, "a checkpoint", CheckpointError)
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes of any kind make the reader fail in any way
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"Expected a checkpoint of plain tensors and numbers, but {path} cannot be read: "
            f"{reason}"
        ) from None
    if not isinstance(content, dict) or not _are_weights(content.get("state_dict")):
        raise CheckpointError(
            f"Expected a checkpoint that this package's training wrote, but {path} holds something "
            "else."
        )
    description = content.get("deformsample")
    held = description if isinstance(description, dict) else {}
    if other := next((x for x in _LOADERS if x != part and held.get(x) is not None), None):
        raise CheckpointError(
            f"Expected a checkpoint of a {part}, but {path} holds a {other}: "
            f"`{_LOADERS[other]}` loads it."
        )
    names = held.get("classes")
    known = are_classes(names) if part == "segmenter" else _are_names(names)
    if not isinstance(held.get(part), dict) or not known:
        raise CheckpointError(
            f"Expected a checkpoint that this package's training wrote, but {path} has no "
            f"description of a {part}."
        )
    return content


def check_fits(checkpoint: Path, task: nn.Module, part: str) -> dict[str, Any]:
    """Make sure that a checkpoint can be loaded into a task.

    Args:
        checkpoint: file.
        task: what it is loaded into.
        part: what the checkpoint should describe, as of :func:`read_checkpoint`.

    Returns:
        The checkpoint's content.

    Raises:
        CheckpointError: it is none of this package, or of a model with other weights.
    """
    content = read_checkpoint(checkpoint, part)
    weights = content["state_dict"]
    theirs = {key: value.shape for key, value in weights.items()}
    ours = {key: value.shape for key, value in task.state_dict().items()}
    different = sorted(k for k in theirs.keys() | ours.keys() if theirs.get(k) != ours.get(k))
    if different:
        raise CheckpointError(
            f"Expected a checkpoint of the configured model, but {checkpoint} differs in "
            f"{len(different)} weights ({different[0]}, ...): give the config.yaml of its run."
        )
    return content


def _check_archive(path: Path) -> None:
    """Torch stores it as it is, with sums: what is larger unpacked was not written by it."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > path.stat().st_size:
            raise ValueError(f"its {path.stat().st_size:,} bytes unpack to {unpacked:,}")
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} in it is damaged")


def _are_weights(content: object) -> bool:
    return isinstance(content, dict) and all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    )


def _are_names(content: object) -> bool:
    return isinstance(content, list) and all(isinstance(name, str) for name in content)


def are_classes(content: object) -> bool:
    """Whether something from a file is names of classes with their colours."""
    return isinstance(content, dict) and all(
        isinstance(name, str)
        and isinstance(colour, (list, tuple))
        and len(colour) == 3
        and all(isinstance(value, int) and 0 <= value <= 255 for value in colour)
        for name, colour in content.items()
    )


def weights_of(content: Mapping[str, Any], prefix: str) -> dict[str, Tensor]:
    """The weights of one part of a model, such as those of ``segmenter.``, by their own names."""
    return {
        name.removeprefix(prefix): value
        for name, value in content["state_dict"].items()
        if name.startswith(prefix)
    }
