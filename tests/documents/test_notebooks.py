"""Every notebook runs from its first cell to its last, with less training than in what is saved."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
BENCHMARKS = NOTEBOOKS.parent / "benchmarks"
QUICK = {
    "01_see_the_sampling": "size = (20, 12)",
    "02_uniform_vs_learned": f"EPOCHS = 1\nBENCHMARKS = Path({str(BENCHMARKS)!r})",
    "03_your_own_data": "EPOCHS = 1",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(QUICK))
def test_notebook(name: str, tmp_path: Path) -> None:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    assert len(cells) == 1
    cells[0].source += "\n" + QUICK[name]
    NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    ).execute()


def test_every_notebook_is_tested_and_saved_with_its_pictures() -> None:
    files = sorted(NOTEBOOKS.glob("*.ipynb"))
    assert [file.stem for file in files] == sorted(QUICK)
    for file in files:
        notebook = nbformat.read(file, as_version=4)
        run = [
            cell
            for cell in notebook.cells
            if cell.cell_type == "code" and "skip-execution" not in cell.metadata.get("tags", [])
        ]
        assert [cell.execution_count for cell in run] == list(range(1, len(run) + 1))
        assert not any(output.output_type == "error" for cell in run for output in cell.outputs)
        assert sum("image/jpeg" in str(cell.outputs) for cell in run) >= 1
        assert file.stat().st_size < 1_500_000
