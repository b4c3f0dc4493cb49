"""The examples of the page about networks of other libraries."""

from pathlib import Path

import pytest
import torch

import deformsample
from deformsample.cli.main import main
from deformsample.conventions import Pixels
from tests.documents.pages import DOCS, blocks, run_python
from tests.helpers import SHORT, save

PAGE = DOCS / "your_network.md"


@pytest.mark.parametrize("number", range(4))
def test_python_runs(number: int, image: Pixels, in_tmp: Path) -> None:
    save(in_tmp / "street.png", image)
    codes = blocks(PAGE, "python")
    assert len(codes) == 4
    run_python(codes[number], PAGE)


@pytest.mark.slow
def test_a_config_trains_a_network_of_torchvision(folder_tree: Path, in_tmp: Path) -> None:
    (block,) = blocks(PAGE, "yaml")
    (in_tmp / "own.yaml").write_text(block)
    command = ["fit", "--config=folder.yaml", "--config=own.yaml", f"--data.root={folder_tree}"]
    options = ["--data.num_workers=0", "--data.batch_size=2", "--trainer.accelerator=cpu"]
    assert main([*command, *options, *SHORT, "--output=run"]) == 0
    model = deformsample.load("run/checkpoints/last.ckpt", kind=deformsample.SegmentationModel)
    labels = model.segment(torch.rand(3, 40, 60))
    assert labels.shape == (40, 60)
