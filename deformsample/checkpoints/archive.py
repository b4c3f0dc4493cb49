"""Reading the content of checkpoints."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deformsample.errors import CheckpointError
from deformsample.files.reading import regular_file

FORMAT = 2
"""Version of the model description. In format 1, the segmenter contained the sampler."""

PARTS = ("segmenter", "classifier")
"""Kinds of models; a checkpoint contains one of them."""


def read_checkpoint(path: Path, part: str | None = None) -> dict[str, Any]:
    """Read a checkpoint of this package without executing code.

    Args:
        path: path of the file.
        part: expected kind of model, one of :data:`PARTS`; ``None`` for any.

    Raises:
        CheckpointError: no such file, not a checkpoint, or another package or format.
    """
    regular_file(path, "a checkpoint", CheckpointError)
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # readers raise any exception on invalid bytes
        # Further sentences of torch explain how to execute the code in a file.
        reason = (str(error) or type(error).__name__).splitlines()[0].partition(". ")[0]
        raise CheckpointError(
            f"Cannot read {path} as a checkpoint of plain tensors and numbers: {reason}"
        ) from None
    if not isinstance(content, dict) or not _are_weights(content.get("state_dict")):
        raise CheckpointError(
            f"Expected a checkpoint of this package, but {path} contains something else."
        )
    trained = check_description(content.get("deformsample"), path)
    if part is not None and trained != part:
        raise CheckpointError(f"Expected a checkpoint of a {part}, but {path} is of a {trained}.")
    return content


def check_description(description: object, source: object) -> str:
    """Check the format of a model description.

    Args:
        description: content of a file.
        source: name of the file in errors.

    Returns:
        The kind of model, one of :data:`PARTS`.

    Raises:
        CheckpointError: the description is invalid.
    """
    given = description if isinstance(description, dict) else {}
    if given.get("format") == 1:
        raise CheckpointError(
            f"Expected a model of format {FORMAT}, but {source} has format 1 of an earlier "
            "version: train it again, or use that version."
        )
    part = next((part for part in PARTS if isinstance(given.get(part), dict)), None)
    names, level = given.get("classes"), given.get("level", 0)
    known = _are_colours(names) if part == "segmenter" else _are_names(names)
    if part is None or not known or given.get("format") != FORMAT or not _is_level(level):
        raise CheckpointError(
            f"Expected a model of this package, but {source} has no valid description of a "
            f"{part or ' or a '.join(PARTS)}."
        )
    return part


def check_fits(checkpoint: Path, task: nn.Module, part: str) -> dict[str, Any]:
    """Check that a checkpoint fits a task.

    Args:
        checkpoint: path of the file.
        task: task to load it into.
        part: expected kind of model, as in :func:`read_checkpoint`.

    Returns:
        The content of the checkpoint.

    Raises:
        CheckpointError: no checkpoint of this package, or of a model with other weights.
    """
    content = read_checkpoint(checkpoint, part)
    if different := different_weights(content["state_dict"], task.state_dict()):
        raise CheckpointError(
            f"Expected a checkpoint of the configured model, but {checkpoint} differs in "
            f"{len(different)} weights ({different[0]}, ...): use the config.yaml of its run."
        )
    return content


def check_classes(
    trained: Iterable[str], given: Iterable[str], checkpoint: object, source: object
) -> None:
    """Check that a data set has the classes of a checkpoint, in the same order.

    Args:
        trained: names of the checkpoint.
        given: names of the data set.
        checkpoint: name of the checkpoint in errors.
        source: name of the data set in errors.

    Raises:
        CheckpointError: it has other classes, or another order.
    """
    if [*trained] != [*given]:
        raise CheckpointError(
            f"Expected the classes of {checkpoint} in the same order, {', '.join(trained)}, but "
            f"{source} has {', '.join(given)}."
        )


def different_weights(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> list[str]:
    """The names of weights that only one of two models has, or that differ in shape."""
    shapes, others = ({k: v.shape for k, v in weights.items()} for weights in (given, wanted))
    return sorted(k for k in shapes.keys() | others.keys() if shapes.get(k) != others.get(k))


def _check_archive(path: Path) -> None:
    """Check that a ZIP archive is uncompressed, as torch writes it, and not damaged."""
    with zipfile.ZipFile(path) as archive:
        unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > path.stat().st_size:
            raise ValueError(f"its {path.stat().st_size:,} bytes unpack to {unpacked:,}")
        if damaged := archive.testzip():
            raise ValueError(f"its member {damaged} is damaged")


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
    """The weights with a prefix such as ``segmenter.``, which is removed from the names."""
    return {
        name.removeprefix(prefix): value
        for name, value in content["state_dict"].items()
        if name.startswith(prefix)
    }
