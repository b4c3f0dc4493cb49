"""The figures of the documentation are drawn by its script."""

from pathlib import Path

import pytest

from docs.draw_figures import draw
from tests.documents.pages import DOCS


@pytest.mark.slow
def test_figures_are_drawn(tmp_path: Path) -> None:
    draw(tmp_path)
    drawn = {file.name for file in tmp_path.iterdir()}
    shown = (DOCS / "concepts.md").read_text()
    assert drawn == {name for name in drawn if f"figures/{name}" in shown}
    assert drawn <= {file.name for file in (DOCS / "figures").iterdir()}


def test_figures_are_small() -> None:
    files = list((DOCS / "figures").iterdir())
    assert files
    assert all(file.stat().st_size < 150_000 for file in files)
