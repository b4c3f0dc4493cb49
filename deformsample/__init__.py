"""Learned, content-aware downsampling for images too large to segment whole."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deformsample.inference import Model, load

__all__ = ["Model", "__version__", "load"]

__version__ = version("deformsample")


def __getattr__(name: str) -> Any:
    """Import what needs torch when it is asked for: :mod:`deformsample.numpy` works without."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from deformsample import inference

    return getattr(inference, name)
