"""Generates the documentation page of the shipped configs."""

from __future__ import annotations

from pathlib import Path


def write(configs: Path, target: Path) -> None:
    """Write one section per YAML file of ``configs``, with its content."""
    target.mkdir(exist_ok=True)
    sections = [
        "# Shipped configs",
        "`--config NAME` finds these unless the working directory has a file of that name.",
    ]
    for file in sorted(configs.rglob("*.yaml"), key=lambda file: (file.parent, file.name)):
        name = file.relative_to(configs).as_posix()
        sections.append(f"## `{name}`\n\n```yaml\n{file.read_text(encoding='utf-8').rstrip()}\n```")
    (target / "configs.md").write_text("\n\n".join(sections) + "\n", encoding="utf-8")
