"""Errors that a user can cause and can mend."""

from __future__ import annotations

from collections.abc import Sequence


class DeformsampleError(Exception):
    """Base of all errors whose message alone tells a user what to do.

    The message is one line: what was expected, what came (which file, key or argument), and the
    remedy. Command lines print it without a traceback.
    """


class ArgumentError(DeformsampleError, ValueError):
    """An argument of a function or a key of a configuration has a value that cannot be used."""


class DataError(DeformsampleError):
    """A file of a data set, or an image to work on, is missing or cannot be used."""


class TrainingError(DeformsampleError):
    """Training cannot go on."""


class SamplingError(DeformsampleError):
    """A sampler gives coordinates that are not finite."""


class WriteError(DeformsampleError):
    """A result cannot be written."""


class CheckpointError(DeformsampleError):
    """A checkpoint cannot be read, or was not written by this package."""


def listed(items: Sequence[object]) -> str:
    """The first five, and how many there are beside."""
    shown = ", ".join(str(item) for item in items[:5])
    return f"{shown} and {len(items) - 5} more" if len(items) > 5 else shown
