"""Keeping a folder to one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deformsample.errors import ArgumentError, WriteError

LOCK = ".lock"
"""File in a folder that a run writes to; it says nothing by being there."""


@contextmanager
def sole_user(folder: Path) -> Iterator[None]:
    """Keep other processes out of a folder, on this machine or, where it is shared, on others.

    The lock is the system's own (POSIX), on a file in the folder: it ends with the process, however
    that ends, so that what is left of a killed one does not stand in the way. Where the system or
    the file system knows no such locks, none is taken.

    Args:
        folder: made where there is none.

    Raises:
        ArgumentError: another process has it.
        WriteError: it cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / LOCK).open("a")
    except OSError as error:
        raise WriteError(
            f"Expected to write to {folder}, but: {error.strerror}. Choose another `--output`."
        ) from error
    with file:
        try:
            import fcntl

            # Not `flock`: processes that read images would hold it for some seconds longer.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            raise ArgumentError(
                f"Expected a folder that no other run writes to, but one is at work in {folder}: "
                "wait until it ends, or choose another `--output`."
            ) from None
        except (ImportError, OSError):
            pass
        yield
