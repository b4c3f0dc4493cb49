"""Decoded images and labels on disk, read by memory mapping."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np

from deformsample.conventions import Pixels
from deformsample.errors import DataError, WriteError
from deformsample.files.reading import regular_file
from deformsample.files.writing import atomic_write


class DecodedCache:
    """A folder of decoded arrays, which all workers and all runs of a machine can share.

    An entry is known by its source files' paths, sizes and times of change, so that a file that
    changes is decoded anew. Entries are written whole or not at all.

    Args:
        folder: where the arrays are; made where it is missing.
        limit: bytes that the folder may hold; what does not fit is decoded every time. ``None`` for
            as much as the disk holds.
    """

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        self.folder = folder
        self.limit = limit

    def get(self, purpose: str, source: Path, decode: Callable[[], Pixels]) -> Pixels:
        """The array of a source file, memory-mapped and read-only.

        Args:
            purpose: what the array is; one source can have several.
            source: the file that it is decoded from.
            decode: makes the array where there is none yet.

        Raises:
            DataError: no such file, or something in the cache that is no decoded image. What it
                holds is never executed.
        """
        state = regular_file(source, "an image file").stat()
        key = f"{purpose}|{source.resolve()}|{state.st_size}|{state.st_mtime_ns}"
        file = self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.npy"
        if not file.is_file():
            decoded = decode()
            if not self._keep(decoded, file):
                return decoded
        return _mapped(file)

    def _keep(self, decoded: Pixels, file: Path) -> bool:
        if self.limit is not None and self._held() + decoded.nbytes > self.limit:
            return False
        try:
            with atomic_write(file) as partial:
                np.save(partial, decoded)
        except WriteError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC:
                return False  # the cache only saves time
            raise
        return True

    def _held(self) -> int:
        total = 0
        with suppress(OSError), os.scandir(self.folder) as entries:  # it may not be there yet
            for entry in entries:
                with suppress(FileNotFoundError):  # another process has finished writing it
                    total += entry.stat().st_size
        return total


def _mapped(file: Path) -> Pixels:
    try:
        array: Pixels = np.load(file, mmap_mode="r", allow_pickle=False)
        if array.dtype != np.uint8 or array.ndim not in (2, 3) or not array.size:
            raise ValueError(f"it holds {array.dtype} of {array.shape}")
    except Exception as error:  # bytes of any kind make a reader fail in any way
        raise DataError(
            f"Expected a decoded image in the cache, but {file} is none ({error}): remove it."
        ) from None
    return array
