"""Where the configurations that come with the package are."""

from __future__ import annotations

from pathlib import Path


def configs_folder() -> Path:
    """``configs/`` of a wheel lies inside the package, that of a clone beside it."""
    package = Path(__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"
