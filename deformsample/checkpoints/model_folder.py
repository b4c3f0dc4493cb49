"""Folders of models: a description and weights, in the layout of the Hugging Face hub."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_weights
from safetensors.torch import save
from torch import Tensor, nn

from deformsample.errors import CheckpointError
from deformsample.files.reading import read_text
from deformsample.files.writing import atomic_write

_CONFIG = "config.json"
_WEIGHTS = "model.safetensors"
_UNREADABLE = (OSError, ValueError, KeyError, TypeError, RecursionError, SafetensorError)


def write_folder(folder: Path, description: Mapping[str, Any], part: nn.Module) -> None:
    """Write a description and the weights of a module to a folder.

    Raises:
        WriteError: a file cannot be written.
    """
    # Copies, since safetensors refuses weights that share memory.
    weights = {k: v.cpu().clone().contiguous() for k, v in part.state_dict().items()}
    for name, content in (
        (_WEIGHTS, save(weights)),
        (_CONFIG, json.dumps(description, indent=1).encode()),
    ):
        with atomic_write(folder / name) as partial:
            partial.write_bytes(content)


def read_folder(folder: Path) -> tuple[Mapping[str, Any], dict[str, Tensor]]:
    """Read the description and the weights of a model from a folder.

    Raises:
        CheckpointError: a file is missing or invalid.
    """
    try:
        description = json.loads(read_text(folder / _CONFIG, "a description", CheckpointError))
        return description, load_weights((folder / _WEIGHTS).read_bytes())
    except (*_UNREADABLE, CheckpointError) as error:
        raise CheckpointError(
            f"Cannot read {_CONFIG} and {_WEIGHTS} of a model in {folder}: {error}"
        ) from None
