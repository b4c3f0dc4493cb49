"""Where the configurations that come with the package are."""

from __future__ import annotations

from pathlib import Path


def configs_folder() -> Path:
    """``configs/`` of a wheel lies inside the package, that of a clone beside it."""
    package = Path(__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def own_or_shipped(root: Path, name: str) -> Path:
    """A file of a folder of data, or else the one of that name among the configs."""
    own = root / Path(name).expanduser()
    return own if own.is_file() else configs_folder() / name
