"""Pages of the configs that come with the package, written from the files themselves."""

from __future__ import annotations

from pathlib import Path


def write(configs: Path, target: Path) -> None:
    """One section for each YAML file of ``configs``: what its head says, and all of it."""
    target.mkdir(exist_ok=True)
    parts = [
        "# Configs that come with the package",
        "What `--config NAME` finds without a file of that name in the working directory.",
    ]
    for file in sorted(configs.rglob("*.yaml"), key=lambda file: (file.parent, file.name)):
        name = file.relative_to(configs).as_posix()
        parts.append(f"## `{name}`\n\n```yaml\n{file.read_text(encoding='utf-8').rstrip()}\n```")
    (target / "configs.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
