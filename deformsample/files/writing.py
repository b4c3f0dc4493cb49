"""Atomic writing of files."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deformsample.errors import WriteError


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """A temporary path that replaces the target after the block.

    If writing fails, the previous file remains. If several processes write the same target, the
    last one wins.

    Args:
        target: path of the file; missing folders are created.

    Raises:
        WriteError: the disk is full, or the folder cannot be written to.
    """
    stem = target.stem[:40]  # names have a maximum length
    partial = target.with_name(f".{stem}.{uuid.uuid4().hex[:8]}.partial{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise WriteError(
            f"Cannot write {target}: {reason}. The previous file is unchanged; free some space, or "
            "choose another folder."
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink()
