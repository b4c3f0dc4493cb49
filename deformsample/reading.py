"""Files of unknown origin: what they are is looked at before they are read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from deformsample.errors import ArgumentError, DataError, DeformsampleError

TEXT_LIMIT = 64 << 20
"""Bytes of a CSV or a list of files up to which it is read."""

YAML_LIMIT = 1 << 20
"""Bytes of a config up to which it is read."""

YAML_NODES = 100_000
"""Values of a config up to which it is read, each alias counted as all that it stands for."""


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


def read_mapping(path: Path) -> dict[str, Any]:
    """The content of a YAML config: plain values by key.

    Tags that make objects are refused, as are aliases that unfold to a giant.

    Raises:
        ArgumentError: not a file, not YAML, or something else than keys and values.
    """
    text = read_text(path, "a config", ArgumentError, YAML_LIMIT)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = 0 if node is None else _values_in(node, {}, set())
        content = yaml.safe_load(text) if values <= YAML_NODES else {}
    except RecursionError:
        raise ArgumentError(
            f"Expected a config, but {path} has values inside of values without end."
        ) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2026-99-99
        reason = " ".join(str(error).split())
        raise ArgumentError(f"Expected YAML, but {path} cannot be read: {reason}") from None
    if values > YAML_NODES:
        raise ArgumentError(
            f"Expected a config of at most {YAML_NODES:,} values, but {path} has {values:,}, where "
            "each alias counts as all that it stands for."
        )
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ArgumentError(
            f"Expected a config of keys and values, but {path} holds "
            f"{'nothing' if content is None else type(content).__name__}."
        )
    return content


def _values_in(node: yaml.Node, known: dict[int, int], above: set[int]) -> int:
    """How many values a node unfolds to; each is counted once, however often it is named."""
    if id(node) in above:
        raise RecursionError
    if id(node) not in known:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [part for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        inside = above | {id(node)}
        known[id(node)] = 1 + sum(_values_in(child, known, inside) for child in children)
    return known[id(node)]


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
