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
    """A folder of decoded arrays, shared by all workers and runs of a machine.

    The key of an entry is the path, size and modification time of its source file, so that changed
    files are decoded again. Entries are written atomically.

    Args:
        folder: folder of the arrays; created if it is missing.
        limit: maximum size of the folder in bytes; further images are decoded every time. ``None``
            for no limit.
    """

    def __init__(self, folder: Path, limit: int | None = None) -> None:
        self.folder = folder
        self.limit = limit

    def get(self, purpose: str, source: Path, decode: Callable[[], Pixels]) -> Pixels:
        """The array of a source file, memory-mapped and read-only.

        Args:
            purpose: distinguishes several arrays of one source.
            source: the source file.
            decode: decodes the array if it is not cached.

        Raises:
            DataError: no such file, or an invalid file in the cache, which is never executed.
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
        if self.limit is not None and self._used() + decoded.nbytes > self.limit:
            return False
        try:
            with atomic_write(file) as partial:
                np.save(partial, decoded)
        except WriteError as error:
            if isinstance(error.__cause__, OSError) and error.__cause__.errno == errno.ENOSPC:
                return False  # the cache only saves time
            raise
        return True

    def _used(self) -> int:
        total = 0
        with suppress(OSError), os.scandir(self.folder) as entries:  # it may not exist yet
            for entry in entries:
                with suppress(FileNotFoundError):  # another process has finished writing it
                    total += entry.stat().st_size
        return total


def _mapped(file: Path) -> Pixels:
    try:
        array: Pixels = np.load(file, mmap_mode="r", allow_pickle=False)
        if array.dtype != np.uint8 or array.ndim not in (2, 3) or not array.size:
            raise ValueError(f"it contains {array.dtype} of {array.shape}")
    except Exception as error:  # readers raise any exception on invalid bytes
        raise DataError(f"Cannot read the cached image {file}: {error}. Remove the file.") from None
    return array
