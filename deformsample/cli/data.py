"""Data sets of configs, for commands that do not train."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from deformsample.cli.configs import find_config
from deformsample.data import SegmentationData
from deformsample.errors import ArgumentError


def read_config(name: str) -> dict[str, Any]:
    """The content of a config of a segmentation, of the working directory or else of the shipped.

    Raises:
        ArgumentError: no such config, or one of another task.
    """
    content: dict[str, Any] = yaml.safe_load(find_config(name).read_text(encoding="utf-8"))
    if (task := content.get("task", "segmentation")) != "segmentation":
        raise ArgumentError(
            f"Expected the config of a segmentation, but {name} is of a {task}, for which there "
            "are the commands fit, validate, test and predict."
        )
    return content


def build_data(section: Mapping[str, Any], root: str | None) -> SegmentationData:
    """The data module that the ``data`` section of a config describes.

    Args:
        section: as in a config.
        root: folder of the data; ``None`` for that of the config.
    """
    given = {} if root is None else {"root": root}
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(SegmentationData, "data")
    parsed = parser.parse_object({"data": {**section, **given}})
    data: SegmentationData = parser.instantiate(parsed).data
    return data


def merged_classes(content: Mapping[str, Any]) -> Mapping[str, Sequence[str]]:
    """The classes that a config takes together in further IoUs."""
    merged: Mapping[str, Sequence[str]] = content.get("model", {}).get("merged") or {}
    return merged
