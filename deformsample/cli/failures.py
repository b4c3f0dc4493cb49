"""How a command line tells of errors: one line, unless the user wants to see it all."""

from __future__ import annotations

import errno
import re
import sys
import threading
from argparse import ArgumentError
from collections.abc import Callable

from deformsample.errors import DeformsampleError

_WORKER = re.compile(r"Original Traceback.*\n\S*?(?:\w+Error): (?P<message>.*)\s*\Z", re.DOTALL)

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""Errors of a disk that is full, or that this user may not fill further."""


def reported(command: Callable[[], object], *, debug: bool) -> int:
    """Run a command; print what a user can mend in one line.

    Args:
        command: what to run.
        debug: let errors pass, with their traceback.

    Returns:
        0, or 1 where the command failed by an error that a user can mend, or 2 for an argument.
    """
    threading.excepthook = threading.__excepthook__ if debug else _not_twice
    try:
        command()
    except ArgumentError as error:  # jsonargparse raises it too
        if debug:
            raise
        return _print_error(str(error), 2)
    except DeformsampleError as error:
        if debug:
            raise
        return _print_error(str(error), 1)
    except OSError as error:  # of files that libraries write, such as TensorBoard's
        if debug or error.errno not in _NO_ROOM:
            raise
        what = error.filename or "logs"
        return _print_error(f"Expected to write {what}, but: {error.strerror}: make room.", 1)
    return 0


def _not_twice(failed: threading.ExceptHookArgs) -> None:
    """TensorBoard's thread hands such an error on to the main one, which tells of it."""
    if not isinstance(failed.exc_value, OSError) or failed.exc_value.errno not in _NO_ROOM:
        threading.__excepthook__(failed)


def _print_error(text: str, code: int) -> int:
    # A data loader's worker sends its whole traceback as the message.
    worker = _WORKER.search(text)
    message = worker["message"] if worker else text
    print(one_line(f"error: {' '.join(message.split())}"), file=sys.stderr)
    return code


def one_line(text: str) -> str:
    """A text for a terminal, whatever file names it holds: what cannot be printed is escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
