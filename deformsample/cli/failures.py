"""Reporting of errors on the command line."""

from __future__ import annotations

import errno
import re
import sys
import threading
from argparse import ArgumentError
from collections.abc import Callable

from deformsample.errors import DeformsampleError

_WORKER = re.compile(r"Original Traceback.*\n\S*?(?:\w+Error): (?P<message>.*)\s*\Z", re.DOTALL)

_NO_DATA = "Expected a config with a data set, such as `--config quickstart.yaml`, but got none"

_REWORDED = (
    (r"(?:Does not validate against any of the Union subtypes Subtypes: \[.*?\] Errors: - )+", ""),
    (r" - (?:Problem with|Expected a <class 'NoneType'>).*", ""),
    (r"\": Problem with given class_path '[\w.]+': Parser key \"", "."),
    (r"Parser key \"([\w.]+)\": ", r"\1: "),
    (r"Problem with given class_path '[\w.]+': (?=module |Option )", ""),
    (r"Type [\w.]*Callable\[.*?\] expects a function or a callable class: ", ""),
    (r"module '([\w.]+)' has no attribute '(\w+)'", r"there is no \1.\2"),
    (r"Option '(\w+)' is not accepted", r"there is no argument '\1'"),
    (r"(?:Subcommand|Group) '\w+' does not accept option '([\w.]+)'", r"Unknown key '\1'"),
    (r"<class '(?:\w+\.)*(\w+)'>", r"\1"),
    (r"a typing\.Literal\[(.*?)\]", r"one of \1"),
    (r"\.* Got value: Namespace\(.*\)", ""),
    (r"\. Got value: ", ", but got "),
    (r"Expected a int", "Expected an int"),
    (r"the following arguments are required: (?:\w+\.)?data\.dataset", _NO_DATA),
)
"""Patterns of messages of jsonargparse, and their short forms. Others are unchanged."""

_NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""Errors of a full or read-only disk, or of an exhausted quota."""


def reported(command: Callable[[], object], *, debug: bool) -> int:
    """Run a command; print errors that a user can correct in one line.

    Args:
        command: the command.
        debug: raise errors with their traceback.

    Returns:
        0 for success, 1 for an error that a user can correct, 2 for an invalid argument.
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
    except OSError as error:  # from libraries that write files, such as TensorBoard
        if debug or error.errno not in _NO_ROOM:
            raise
        what = error.filename or "logs"
        return _print_error(f"Cannot write {what}: {error.strerror}. Free some space.", 1)
    return 0


def _not_twice(failed: threading.ExceptHookArgs) -> None:
    """Silence disk errors of TensorBoard's thread, which the main thread reports."""
    if not isinstance(failed.exc_value, OSError) or failed.exc_value.errno not in _NO_ROOM:
        threading.__excepthook__(failed)


def _print_error(text: str, code: int) -> int:
    # The message of a data loader worker is its whole traceback.
    worker = _WORKER.search(text)
    message = worker["message"] if worker else text
    print(one_line(f"error: {reworded(' '.join(message.split()))}"), file=sys.stderr)
    return code


def reworded(text: str) -> str:
    """A message in the words of this package, without the types and values of parsers."""
    for pattern, replacement in _REWORDED:
        text = re.sub(pattern, replacement, text)
    return text


def one_line(text: str) -> str:
    """Escape non-printable characters, which file names can contain."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
