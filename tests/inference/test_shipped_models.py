"""Models that come with the package."""

from pathlib import Path

import numpy as np
import pytest

import deformsample
from deformsample.checkpoints.sources import find_model, shipped_models
from deformsample.cli.main import main
from deformsample.conventions import Pixels
from deformsample.errors import CheckpointError
from tests.helpers import naming, save


@pytest.mark.parametrize("name", shipped_models())
def test_shipped_models_segment_and_have_cards(
    name: str, image: Pixels, capsys: pytest.CaptureFixture[str]
) -> None:
    model = deformsample.load(name, kind=deformsample.SegmentationModel)
    labels = model.segment(image)
    assert labels.shape == image.shape[:2]
    assert labels.max() < len(model.classes)
    assert main(["info", name]) == 0
    assert "test/boundary_iou" in capsys.readouterr().out
    card = (find_model(name) / "README.md").read_text()
    assert f"# {name}\n" in card
    assert "python -m benchmarks.shipped_models" in card


def test_shipped_models_are_small() -> None:
    files = [file for name in shipped_models() for file in find_model(name).iterdir()]
    assert sum(file.stat().st_size for file in files) < 2_000_000


def test_the_learned_model_measured_better_than_uniform_sampling() -> None:
    learned, uniform = (
        deformsample.load(name).description["card"]["metrics"]
        for name in ("blue-marble", "blue-marble-uniform")
    )
    assert learned["test/miou"] > uniform["test/miou"]
    assert learned["test/boundary_iou"] > uniform["test/boundary_iou"]


def test_an_own_folder_comes_before_a_shipped_model(in_tmp: Path) -> None:
    assert find_model("blue-marble") != Path("blue-marble")
    Path("blue-marble").mkdir()
    assert find_model("blue-marble") == Path("blue-marble")
    with pytest.raises(CheckpointError, match=naming("atlantis", "blue-marble")):
        deformsample.load("atlantis")


def test_a_run_is_its_last_checkpoint(checkpoint: Path) -> None:
    assert checkpoint.name == "last.ckpt"
    assert find_model(checkpoint.parents[1]) == checkpoint


@pytest.mark.slow
def test_commands_take_names(image: Pixels, in_tmp: Path) -> None:
    photo = str(save(in_tmp / "photo.png", image))
    assert main(["downsample", "blue-marble", photo, "--output", "small"]) == 0
    assert main(["segment", "blue-marble", photo, "--output", "labels"]) == 0
    page = ["--image", photo, "--output", "page.html"]
    assert main(["compare", "blue-marble", "uniform", *page]) == 0


@pytest.mark.slow
def test_the_demo_measures_and_compares(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--output", "page.html"]) == 0
    printed = capsys.readouterr().out
    assert "page.html" in printed
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines() if line.strip()}
    learned, uniform = map(float, rows["miou"])
    assert learned > uniform
    card = deformsample.load("blue-marble").description["card"]["metrics"]
    assert np.isclose(learned, card["test/miou"], atol=2e-3)
    assert "error curves" in Path("page.html").read_text()
