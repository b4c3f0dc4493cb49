"""Building the data sets of configs, for commands that do not train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from jsonargparse import ArgumentParser

from deformsample.data import SegmentationDataModule
from deformsample.data.augmentation import ignore_padding_by_default
from deformsample.data.datamodule import ImageDataModule
from deformsample.errors import ArgumentError, DeformsampleError
from deformsample.files.configs import find_config, read_mapping

Data = TypeVar("Data", bound=ImageDataModule[Any])


def read_config(name: str) -> dict[str, Any]:
    """The content of a segmentation config, from the working directory or the shipped configs.

    Raises:
        ArgumentError: no such config, or a config of another task.
    """
    content = read_mapping(find_config(name))
    if (task := content.get("task", "segmentation")) != "segmentation":
        raise ArgumentError(
            f"Expected a segmentation config, but {name} has the task {task!r}, which only the "
            "commands fit, validate, test and predict support."
        )
    return content


def build_data(content: Mapping[str, Any], root: str | None, source: str) -> SegmentationDataModule:
    """The data module of a segmentation config; see :func:`build_any_data`."""
    return build_any_data(SegmentationDataModule, content, root, source)


def build_any_data(
    kind: type[Data], content: Mapping[str, Any], root: str | None, source: str
) -> Data:
    """The data module of the ``data`` section of a config.

    Args:
        kind: class of the data module.
        content: content of the config.
        root: folder of the data; ``None`` for that of the config.
        source: name of the config in errors.

    Raises:
        ArgumentError: the section does not describe a data set.
    """
    given = {} if root is None else {"root": root}
    ignore_padding_by_default()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "data")
    section = content.get("data") or {}
    if not isinstance(section, dict):
        raise ArgumentError(f"Expected `data` of {source} to hold keys, but got {section!r:.200}.")
    try:
        parsed = parser.parse_object({"data": {**section, **given}})
        data: Data = parser.instantiate(parsed).data
    except ArgumentError as error:
        raise ArgumentError(f"{error} (in {source})") from error
    except DeformsampleError:
        raise
    except Exception as error:  # classes raise any exception on invalid values
        reason = " ".join(str(error).split())
        raise ArgumentError(f"Cannot build the data set of {source}: {reason}") from error
    return data


def class_groups(content: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
    """The class groups of a config, which metrics treat as one class each."""
    model = content.get("model")
    groups: Mapping[str, Sequence[str]] | None
    groups = model.get("class_groups") if isinstance(model, dict) else None
    return groups or {}
