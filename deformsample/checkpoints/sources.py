"""Models as checkpoints, runs and folders, and by the names of those that come with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deformsample.checkpoints.archive import check_description, read_checkpoint
from deformsample.checkpoints.model_folder import read_folder
from deformsample.errors import CheckpointError

_SHIPPED = Path(__file__).parents[1] / "models"


def shipped_models() -> list[str]:
    """The names of the models that come with the package."""
    return sorted(folder.name for folder in _SHIPPED.iterdir() if folder.is_dir())


def find_model(model: str | Path) -> Path:
    """The path of a model.

    Args:
        model: checkpoint, folder of ``save_pretrained``, folder of a run (its last checkpoint), or
            name of a model of the package.

    Raises:
        CheckpointError: there is none of these.
    """
    path = Path(model).expanduser()
    if (last := path / "checkpoints" / "last.ckpt").is_file():
        return last
    if path.exists():
        return path
    if str(model) in shipped_models():
        return _SHIPPED / str(model)
    raise CheckpointError(
        f"Expected a checkpoint at {model}, but there is none. Models of the package: "
        f"{', '.join(shipped_models())}."
    )


def read_model(path: Path) -> dict[str, Any]:
    """Read a checkpoint, or a folder of ``save_pretrained``, without executing code.

    Returns:
        The content of a checkpoint; of a folder, its ``deformsample`` and ``state_dict``.

    Raises:
        CheckpointError: no model of this package, or of another format.
    """
    if not path.is_dir():
        return read_checkpoint(path)
    description, weights = read_folder(path)
    part = check_description(description, path)
    return {
        "deformsample": description,
        "state_dict": {f"{part}.{name}": value for name, value in weights.items()},
    }
