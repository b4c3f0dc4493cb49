"""Learned, content-aware downsampling for images too large to segment whole."""

from importlib.metadata import version

from deformsample.inference import Model, load

__all__ = ["Model", "__version__", "load"]

__version__ = version("deformsample")
