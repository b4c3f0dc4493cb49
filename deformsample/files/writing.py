"""Writing files whole or not at all."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from deformsample.errors import WriteError


@contextmanager
def atomic_write(target: Path) -> Iterator[Path]:
    """A path to write to, which takes the target's place when all is written.

    What stood at the target before stays until then, and for good where writing fails. Processes
    that write the same target do not mix: the last one that ends wins.

    Args:
        target: its folder is made where there is none.

    Raises:
        WriteError: the disk is full, or the folder cannot be written to.
    """
    stem = target.stem[:40]  # the name may be as long as names can be
    partial = target.with_name(f".{stem}.{uuid.uuid4().hex[:8]}.partial{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.replace(target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise WriteError(
            f"Expected to write {target}, but: {reason}. What was there before is as it was; make "
            "room, or choose another place."
        ) from error
    finally:
        with suppress(OSError):
            partial.unlink()
