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

FORMAT = 2
"""Of a checkpoint's description. Format 1 had the sampler in the segmenter itself."""

PARTS = ("segmenter", "classifier")
"""What is trained: a checkpoint holds one of these."""


def read_checkpoint(path: Path, part: str | None = None) -> dict[str, Any]:
    """The content of a checkpoint of this package, without executing code that it may hold.

    Args:
        path: file.
        part: what must have been trained, one of :data:`PARTS`; ``None`` for any.

    Raises:
        CheckpointError: no such file, not a checkpoint, or not one of this package and format.
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
    held = check_description(content.get("deformsample"), path)
    if part is not None and held != part:
        raise CheckpointError(f"Expected a checkpoint of a {part}, but {path} holds a {held}.")
    return content


def check_description(description: object, source: object) -> str:
    """Make sure that a model is described as this version describes it.

    Args:
        description: from a file.
        source: what an error names.

    Returns:
        What was trained, one of :data:`PARTS`.

    Raises:
        CheckpointError: it is not described so.
    """
    given = description if isinstance(description, dict) else {}
    if given.get("format") == 1:
        raise CheckpointError(
            f"Expected a model of format {FORMAT}, but {source} is of format 1, of an earlier "
            "version: train it again, or use that version."
        )
    part = next((part for part in PARTS if isinstance(given.get(part), dict)), None)
    names, level = given.get("classes"), given.get("level", 0)
    known = _are_colours(names) if part == "segmenter" else _are_names(names)
    if part is None or not known or given.get("format") != FORMAT or not _is_level(level):
        raise CheckpointError(
            f"Expected a model that this package's training wrote, but {source} has no "
            f"description of a {part or ' or a '.join(PARTS)}."
        )
    return part


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


def _is_level(content: object) -> bool:
    return isinstance(content, int) and 0 <= content < 32


def _are_names(content: object) -> bool:
    return isinstance(content, list) and all(isinstance(name, str) for name in content)


def _are_colours(content: object) -> bool:
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
