"""Reading checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from deformsample.errors import CheckpointError


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint of this package, without executing code that it may hold.

    Raises:
        CheckpointError: no such file, not a checkpoint, or not one of this package.
    """
    if not path.is_file():
        raise CheckpointError(f"Expected a checkpoint at {path}, but there is no such file.")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # bytes of any kind make the reader fail in any way
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise CheckpointError(
            f"Expected a checkpoint of plain tensors and numbers, but {path} cannot be read: "
            f"{reason}"
        ) from None
    if not isinstance(content, dict) or "state_dict" not in content:
        raise CheckpointError(
            f"Expected a checkpoint that this package's training wrote, but {path} holds something "
            "else."
        )
    description = content.get("deformsample")
    if not isinstance(description, dict) or description.get("segmenter") is None:
        raise CheckpointError(
            f"Expected a checkpoint that this package's training wrote, but {path} has no "
            "description of a segmenter."
        )
    return content
