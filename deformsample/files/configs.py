"""Where the configurations that come with the package are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from deformsample.errors import ArgumentError
from deformsample.files.reading import read_text


def configs_folder() -> Path:
    """``configs/`` of a wheel lies inside the package, that of a clone beside it."""
    package = Path(__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def own_or_shipped(root: Path, name: str) -> Path:
    """A file of a folder of data, or else the one of that name among the configs."""
    own = root / Path(name).expanduser()
    return own if own.is_file() else configs_folder() / name


YAML_LIMIT = 1 << 20
"""Bytes of a config up to which it is read."""


YAML_NODES = 100_000
"""Values of a config up to which it is read, each alias counted as all that it stands for."""


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


def find_config(name: str) -> Path:
    """The config of that name in the working directory, or else among the shipped ones."""
    shipped = configs_folder()
    for candidate in (Path(name).expanduser(), shipped / name):
        if candidate.is_file():
            return candidate
    available = sorted(str(file.relative_to(shipped)) for file in shipped.rglob("*.yaml"))
    raise ArgumentError(
        f"Expected a config file after --config, but there is no {name!r} here or in {shipped}. "
        f"Shipped are: {', '.join(available)}."
    )
