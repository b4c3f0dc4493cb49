"""Errors that a user can cause and correct."""

from __future__ import annotations

from collections.abc import Sequence


class DeformsampleError(Exception):
    """Base of all errors that a user can correct.

    The message is one line: what was expected, the value that was given (file, key or argument),
    and the remedy. Commands print it without a traceback.
    """


class ArgumentError(DeformsampleError, ValueError):
    """An argument of a function or a key of a configuration has an invalid value."""


class DataError(DeformsampleError):
    """A file of a data set, or an input image, is missing or invalid."""


class TrainingError(DeformsampleError):
    """Training cannot continue."""


class SamplingError(DeformsampleError):
    """A sampler returns non-finite coordinates."""


class WriteError(DeformsampleError):
    """A result cannot be written."""


class CheckpointError(DeformsampleError):
    """A checkpoint cannot be read, or was not written by this package."""


def listed(items: Sequence[object]) -> str:
    """The first five items, and the number of further ones."""
    shown = ", ".join(str(item) for item in items[:5])
    return f"{shown} and {len(items) - 5} more" if len(items) > 5 else shown
