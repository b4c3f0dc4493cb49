"""Files of unknown origin: what they are is looked at before they are read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from deformsample.errors import DataError, DeformsampleError

TEXT_LIMIT = 64 << 20
"""Bytes of a CSV or a list of files up to which it is read."""


def regular_file(
    path: Path, what: str, kind: type[DeformsampleError] = DataError, limit: int | None = None
) -> Path:
    """Pass a path on if a file is there: no folder, and no pipe or device that never ends.

    Args:
        path: to look at; links are followed.
        what: was expected, with its article.
        kind: of the error.
        limit: bytes that the file may have.

    Raises:
        DeformsampleError: of that kind, naming the path.
    """
    try:
        state = path.stat()
    except FileNotFoundError:
        raise kind(f"Expected {what} at {path}, but there is none.") from None
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        raise kind(f"Expected {what}, but {path} cannot be opened: {_reason(error)}.") from None
    if path.is_dir():
        raise kind(f"Expected {what}, but {path} is a folder.")
    if not path.is_file():
        raise kind(f"Expected {what}, but {path} is a pipe or a device.")
    if limit is not None and state.st_size > limit:
        raise kind(
            f"Expected {what} of at most {limit:,} bytes, but {path} has {state.st_size:,}: is it "
            "another file?"
        )
    return path


def read_text(
    path: Path, what: str, kind: type[DeformsampleError] = DataError, limit: int = TEXT_LIMIT
) -> str:
    """The text of a file in UTF-8, with or without a byte order mark.

    Args:
        path: of the file.
        what: was expected, with its article.
        kind: of the error.
        limit: bytes that the file may have.

    Raises:
        DeformsampleError: of that kind, naming the file.
    """
    regular_file(path, what, kind, limit)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise kind(
            f"Expected {what}, but {path} is no text in UTF-8: byte {error.start} does not fit."
        ) from None
    except OSError as error:
        raise kind(f"Expected {what}, but {path} cannot be read: {_reason(error)}.") from None
    if "\0" in text:
        raise kind(f"Expected {what}, but {path} is no text: it holds zero bytes.")
    return text


def files_in(folder: Path) -> Iterator[Path]:
    """All that a folder holds, but for what is hidden.

    Raises:
        DataError: it cannot be listed.
    """
    try:
        found = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(
            f"Expected a folder that can be listed, but {folder} cannot: {_reason(error)}."
        ) from None
    return (file for file in found if not file.name.startswith("."))


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def csv_rows(file: Path, what: str) -> list[list[str]]:
    """The rows of a CSV file.

    Raises:
        DataError: not a file, no text, or no CSV.
    """
    try:
        return list(csv.reader(io.StringIO(read_text(file, what), newline="")))
    except csv.Error as error:
        raise DataError(f"Expected {what}, but {file} is no CSV: {error}.") from None
