"""Learned, content-aware downsampling for images too large to segment whole."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from deformsample.inference.classification import ImageClassifier, load_classifier
    from deformsample.inference.model import Model, load

__all__ = ["ImageClassifier", "Model", "__version__", "load", "load_classifier"]

_HOME = {
    "ImageClassifier": "deformsample.inference.classification",
    "load_classifier": "deformsample.inference.classification",
    "Model": "deformsample.inference.model",
    "load": "deformsample.inference.model",
}


def __getattr__(name: str) -> Any:
    """Import what is asked for: :mod:`deformsample.kernels` works without torch."""
    if name == "__version__":
        return import_module("importlib.metadata").version("deformsample")
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
