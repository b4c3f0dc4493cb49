"""Reading untrusted files; their type and size are checked first."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from deformsample.errors import DataError, DeformsampleError

TEXT_LIMIT = 64 << 20
"""Maximum size of a text file in bytes."""


def regular_file(
    path: Path, what: str, kind: type[DeformsampleError] = DataError, limit: int | None = None
) -> Path:
    """Return a path if it is a regular file: no folder, pipe or device.

    Args:
        path: path to check; links are followed.
        what: expected content, with its article, for the error.
        kind: class of the error.
        limit: maximum size in bytes.

    Raises:
        DeformsampleError: of that class, naming the path.
    """
    try:
        state = path.stat()
    except FileNotFoundError:
        raise kind(f"Expected {what} at {path}, but there is none.") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise kind(f"Cannot read {path} as {what}: {_reason(error)}.") from None
    if path.is_dir():
        raise kind(f"Expected {what}, but {path} is a folder.")
    if not path.is_file():
        raise kind(f"Expected {what}, but {path} is a pipe or a device.")
    if limit is not None and state.st_size > limit:
        raise kind(
            f"Expected {what} of at most {limit:,} bytes, but {path} has {state.st_size:,}: is it "
            "the right file?"
        )
    return path


def read_text(
    path: Path, what: str, kind: type[DeformsampleError] = DataError, limit: int = TEXT_LIMIT
) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Args:
        path: path of the file.
        what: expected content, with its article, for the error.
        kind: class of the error.
        limit: maximum size in bytes.

    Raises:
        DeformsampleError: of that class, naming the file.
    """
    regular_file(path, what, kind, limit)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise kind(
            f"Cannot read {path} as {what}: byte {error.start} is not valid UTF-8."
        ) from None
    except OSError as error:
        raise kind(f"Cannot read {path} as {what}: {_reason(error)}.") from None
    if "\0" in text:
        raise kind(f"Cannot read {path} as {what}: it contains zero bytes, so it is no text.")
    return text


def files_in(folder: Path) -> Iterator[Path]:
    """The visible entries of a folder, sorted.

    Raises:
        DataError: the folder cannot be listed.
    """
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(f"Cannot list the folder {folder}: {_reason(error)}.") from None
    return (file for file in entries if not file.name.startswith("."))


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def csv_rows(file: Path, what: str) -> list[list[str]]:
    """The rows of a CSV file.

    Raises:
        DataError: no file, no text, or no CSV.
    """
    try:
        return list(csv.reader(io.StringIO(read_text(file, what), newline="")))
    except csv.Error as error:
        raise DataError(f"Cannot read {file} as {what} (CSV): {error}.") from None
