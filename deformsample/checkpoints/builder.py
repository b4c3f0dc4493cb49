"""Building models from checkpoints.

Checkpoints are untrusted. Their description is checked before anything is imported: it can
name only network modules of the packages in :data:`TRUSTED`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeVar

from jsonargparse import ArgumentParser
from torch import Tensor, nn

from deformsample.errors import CheckpointError

Part = TypeVar("Part", bound=nn.Module)

TRUSTED = ("deformsample", "segmentation_models_pytorch", "timm", "torch.nn")
"""Packages whose networks a checkpoint can name by default."""

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_WEIGHT_FILES = frozenset({"weights", "encoder_weights"})
_DEPTH = 50


def build_part(
    kind: type[Part], architecture: object, source: object, trust: Sequence[str] = ()
) -> Part:
    """Build a segmenter or a classifier from class paths and arguments.

    Args:
        kind: base class.
        architecture: ``class_path`` and ``init_args`` of a subclass.
        source: name of the file in errors.
        trust: further packages whose networks it can name; they are imported.

    Raises:
        CheckpointError: it names another package, or cannot be built.
    """
    plain = _checked(architecture, (*TRUSTED, *trust), source)
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--part", type=kind)
    try:
        parsed = parser.parse_object({"part": plain})
        built = parser.instantiate(parsed).part
    except Exception as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"Cannot build the {kind.__name__.lower()} of {source}: {reason}"
        ) from None
    assert isinstance(built, kind)
    return built


def _checked(value: object, trusted: Sequence[str], source: object, depth: int = 0) -> Any:
    """The same without files of weights, which the checkpoint contains.

    Strings are checked too, since the parser interprets some as class paths or YAML.
    """
    if depth > _DEPTH:
        raise _refused(source, f"it has more than {_DEPTH} nested levels")
    if isinstance(value, Mapping):
        if (path := value.get("class_path")) is not None:
            _check_class(path, trusted, source)
        return {
            key: None if key in _WEIGHT_FILES else _checked(item, trusted, source, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_checked(item, trusted, source, depth + 1) for item in value]
    if isinstance(value, str):
        if "class_path" in value:
            raise _refused(source, "it has a class path in a string")
        if _IMPORT_PATH.fullmatch(value) and find_spec(value.partition(".")[0]):
            _check_class(value, trusted, source)
    return value


def _check_class(path: object, trusted: Sequence[str], source: object) -> None:
    if not isinstance(path, str) or not path.startswith(tuple(f"{name}." for name in trusted)):
        raise _refused(
            source,
            f"it names {path!r}, which is in none of the packages {', '.join(trusted)}; if you "
            "trust the package and the source of the file, add the package (`trust=[...]`, "
            "`--trust PACKAGE`)",
        )
    module, _, name = path.rpartition(".")
    try:
        named = getattr(import_module(module), name)
    except Exception as error:  # a missing package, or another version of it
        raise _refused(source, f"{path} cannot be imported: {error}") from None
    # No functions: those of timm can download and read files.
    if not (isinstance(named, type) and issubclass(named, nn.Module)):
        raise _refused(source, f"{path} is no torch.nn.Module")


def _refused(source: object, reason: str) -> CheckpointError:
    return CheckpointError(f"Expected {source} to name only trusted networks, but {reason}.")


def load_weights_into(part: nn.Module, weights: Mapping[str, Tensor], source: object) -> None:
    """Load the weights of a checkpoint into a segmenter or a classifier.

    Raises:
        CheckpointError: the weights do not fit.
    """
    try:
        part.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"Cannot load the weights of {source} into a {type(part).__name__}: {reason}"
        ) from None


def architecture(part: Mapping[str, Any], class_count: Mapping[str, int]) -> dict[str, Any]:
    """Class paths and arguments of a segmenter or classifier, complete enough to build it.

    Args:
        part: the config of the model.
        class_count: further arguments of the network, from the data set.
    """
    init_args = dict(part["init_args"])
    network = dict(init_args["network"])
    network["init_args"] = {**network.get("init_args", {}), **class_count}
    plain: dict[str, Any] = _plain({**part, "init_args": {**init_args, "network": network}})
    return plain


def _plain(value: Any) -> Any:
    """Dictionaries, lists and scalars for a checkpoint, without files of ``weights``."""
    if isinstance(value, Mapping):
        return {str(key): None if key == "weights" else _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (bool, int, float, type(None))) else str(value)
