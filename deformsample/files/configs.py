"""Reading configs, and the folder of the shipped configs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from deformsample.errors import ArgumentError
from deformsample.files.reading import read_text


def configs_folder() -> Path:
    """The shipped configs: inside the package (wheel), or beside it (clone)."""
    package = Path(__file__).parents[1]
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def own_or_shipped(root: Path, name: str) -> Path:
    """A file below a data folder, or the shipped config of that name if only that exists."""
    own, shipped = root / Path(name).expanduser(), configs_folder() / name
    return shipped if shipped.is_file() and not own.is_file() else own


YAML_LIMIT = 1 << 20
"""Maximum size of a config in bytes."""


YAML_NODES = 100_000
"""Maximum number of values of a config, with aliases expanded."""


def read_mapping(path: Path) -> dict[str, Any]:
    """The content of a YAML config: plain values by key.

    Tags that create objects, and aliases that expand to too many values, are refused.

    Raises:
        ArgumentError: not a file, not YAML, or no mapping.
    """
    text = read_text(path, "a config", ArgumentError, YAML_LIMIT)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        values = 0 if node is None else _values_in(node, {}, set())
        content = yaml.safe_load(text) if values <= YAML_NODES else {}
    except RecursionError:
        raise ArgumentError(f"Cannot read the config {path}: it contains itself.") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2026-99-99
        reason = " ".join(str(error).split())
        raise ArgumentError(f"Cannot read {path} as YAML: {reason}") from None
    if values > YAML_NODES:
        raise ArgumentError(
            f"Expected a config of at most {YAML_NODES:,} values, but {path} has {values:,} with "
            "aliases expanded."
        )
    if not isinstance(content, dict) or not all(isinstance(key, str) for key in content):
        raise ArgumentError(
            f"Expected a config of keys and values, but {path} contains "
            f"{'nothing' if content is None else type(content).__name__}."
        )
    return content


def _values_in(node: yaml.Node, known: dict[int, int], above: set[int]) -> int:
    """The number of values of a node with aliases expanded."""
    if id(node) in above:
        raise RecursionError
    if id(node) not in known:
        children: list[yaml.Node] = []
        if isinstance(node, yaml.MappingNode):
            children = [child for pair in node.value for child in pair]
        elif isinstance(node, yaml.SequenceNode):
            children = node.value
        inside = above | {id(node)}
        known[id(node)] = 1 + sum(_values_in(child, known, inside) for child in children)
    return known[id(node)]


def find_config(name: str) -> Path:
    """The config of that name in the working directory, otherwise the shipped one."""
    shipped = configs_folder()
    for candidate in (Path(name).expanduser(), shipped / name):
        if candidate.is_file():
            return candidate
    available = sorted(str(file.relative_to(shipped)) for file in shipped.rglob("*.yaml"))
    raise ArgumentError(
        f"Expected a config file after --config, but there is no {name!r} here or in {shipped}. "
        f"Shipped configs: {', '.join(available)}."
    )
