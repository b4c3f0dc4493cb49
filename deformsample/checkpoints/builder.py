"""Building what checkpoints describe.

A checkpoint may come from anywhere, so what it describes is looked at before anything is imported:
it can name modules of networks of the packages that :data:`TRUSTED` lists, and nothing else.
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

TRUSTED = (
    "deformsample",
    "segmentation_models_pytorch",
    "timm",
    "torch.nn",
    "torchvision.models.segmentation",
)
"""Packages whose networks a checkpoint can be built of, unless the user trusts more."""

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_OWN_WEIGHTS = frozenset({"weights", "encoder_weights", "weights_backbone"})
_DEPTH = 50


def build_part(
    kind: type[Part], architecture: object, source: object, trust: Sequence[str] = ()
) -> Part:
    """Make a segmenter or a classifier from class paths and arguments.

    Args:
        kind: which of them.
        architecture: ``class_path`` and ``init_args`` of a subclass.
        source: what an error names.
        trust: packages beside :data:`TRUSTED` whose networks it may name; they are imported.

    Raises:
        CheckpointError: it names something else, or cannot be built.
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
            f"Expected {source} to describe a {kind.__name__.lower()} that this version can "
            f"build, but: {reason}"
        ) from None
    assert isinstance(built, kind)
    return built


def _checked(value: object, trusted: Sequence[str], source: object, depth: int = 0) -> Any:
    """The same, without files of weights, which the checkpoint brings itself.

    Strings are looked at too: the parser takes some for class paths, and others for YAML.
    """
    if depth > _DEPTH:
        raise _refused(source, f"it is nested in more than {_DEPTH} levels")
    if isinstance(value, Mapping):
        if (path := value.get("class_path")) is not None:
            _check_class(path, trusted, source)
        return {
            key: None if key in _OWN_WEIGHTS else _checked(item, trusted, source, depth + 1)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_checked(item, trusted, source, depth + 1) for item in value]
    if isinstance(value, str):
        if "class_path" in value:
            raise _refused(source, "it hides a class path in a text")
        if _IMPORT_PATH.fullmatch(value) and find_spec(value.partition(".")[0]):
            _check_class(value, trusted, source)
    return value


def _check_class(path: object, trusted: Sequence[str], source: object) -> None:
    if not isinstance(path, str) or not path.startswith(tuple(f"{name}." for name in trusted)):
        raise _refused(
            source,
            f"it names {path!r}, which is of none of the packages {', '.join(trusted)}; if you "
            "trust its package, and whom the file comes from, name the package (`trust=[...]`, "
            "`--trust PACKAGE`)",
        )
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)
    except Exception as error:  # a trusted package that is missing, or of another version
        raise _refused(source, f"{path} cannot be imported: {error}") from None
    # Functions of torchvision say what they build.
    built = (
        found if isinstance(found, type) else getattr(found, "__annotations__", {}).get("return")
    )
    if not (isinstance(built, type) and issubclass(built, nn.Module)):
        raise _refused(source, f"{path} is no module of a network")


def _refused(source: object, reason: str) -> CheckpointError:
    return CheckpointError(f"Expected {source} to describe a network of known parts, but {reason}.")


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


def architecture(part: Mapping[str, Any], class_count: Mapping[str, int]) -> dict[str, Any]:
    """Class paths and arguments of a segmenter or classifier, complete enough to build it.

    Args:
        part: as configured.
        class_count: what the network gets beside, from the data set.
    """
    init_args = dict(part["init_args"])
    network = dict(init_args["network"])
    network["init_args"] = {**network.get("init_args", {}), **class_count}
    plain: dict[str, Any] = _plain({**part, "init_args": {**init_args, "network": network}})
    return plain


def _plain(value: Any) -> Any:
    """Only dictionaries, lists and scalars, as a checkpoint may hold them.

    Files of ``weights`` are left out: those of the checkpoint take their place.
    """
    if isinstance(value, Mapping):
        return {str(key): None if key == "weights" else _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (bool, int, float, type(None))) else str(value)
