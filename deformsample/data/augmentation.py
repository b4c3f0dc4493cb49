"""Albumentations transforms of configs."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from typing import TypeAlias

from deformsample.conventions import IGNORE_INDEX

# Set before the only import of albumentations, which otherwise checks for updates online.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from albumentations import BaseCompose, BasicTransform
from albumentations import Compose as Compose  # for the items
from albumentations import DualTransform as DualTransform  # for transforms of this package

Augmentation: TypeAlias = BasicTransform | BaseCompose
"""A transform, or a composition of transforms such as ``albumentations.OneOf``."""


def ignore_padding_by_default() -> None:
    """Make ``IGNORE_INDEX`` the default ``fill_mask`` of transforms in configs.

    The default of albumentations is 0, which is a class. Only signatures change, from which parsers
    of configs read defaults. A ``fill_mask`` in a config has precedence. Transforms created in
    Python are unchanged, and so are those whose default is ``None``, which keep the labels.
    """
    for transform in _subclasses(BasicTransform):
        signature = inspect.signature(transform.__init__)
        fill_mask = signature.parameters.get("fill_mask")
        if fill_mask is not None and fill_mask.default == 0:
            parameters = {
                **signature.parameters,
                "fill_mask": fill_mask.replace(default=IGNORE_INDEX),
            }
            transform.__init__.__signature__ = signature.replace(parameters=[*parameters.values()])


def _subclasses(base: type[BasicTransform]) -> Iterator[type[BasicTransform]]:
    for child in base.__subclasses__():
        yield child
        yield from _subclasses(child)
