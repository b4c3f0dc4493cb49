"""Learned, content-aware downsampling for images too large to segment whole."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deformsample.inference.loading import load
    from deformsample.inference.model import ClassificationModel, Model, SegmentationModel
    from deformsample.samplers.focus import Focus
    from deformsample.wrapping import segmenter

__all__ = [
    "ClassificationModel",
    "Focus",
    "Model",
    "SegmentationModel",
    "__version__",
    "load",
    "segmenter",
]

_HOME = {
    "ClassificationModel": "deformsample.inference.model",
    "Focus": "deformsample.samplers.focus",
    "Model": "deformsample.inference.model",
    "SegmentationModel": "deformsample.inference.model",
    "load": "deformsample.inference.loading",
    "segmenter": "deformsample.wrapping",
}


def __getattr__(name: str) -> Any:
    """Import names that need torch only when they are used."""
    if name == "__version__":
        return import_module("importlib.metadata").version("deformsample")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
