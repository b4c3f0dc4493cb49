"""Readers of a tutorial get what it promises, from top to bottom, with shorter trainings."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import deformsample
from deformsample.cli.main import main
from tests.documents.pages import DOCS, Step, blocks, run_python, steps, words

DATA = DOCS / "your_data.md"
SHORT = [
    "--trainer.max_epochs=1",
    "--trainer.limit_train_batches=2",
    "--trainer.check_val_every_n_epoch=1",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
]


def follow(file: Path) -> None:
    """Do all steps of a page in the working directory."""
    for step in steps(file):
        if step.kind == "python":
            run_python(step.text, file)
        elif step.kind == "yaml":
            name = step.text.partition("\n")[0].removeprefix("# ")
            assert name.endswith(".yaml"), f"{file.name}: a config begins with '# NAME.yaml'"
            Path(name).write_text(step.text)
        elif step.kind == "command":
            run_command(step)


def run_command(step: Step) -> None:
    match words(step):
        case ["pip", *_] | ["python", "-m", "pip", *_]:
            return  # what runs this test is installed
        case ["deformsample", "fit", *rest]:
            code = main(["fit", *rest, *SHORT])
        case ["deformsample", "benchmark", *rest]:
            one = ["--budget=1/8 per side", *(f"--option={option}" for option in SHORT)]
            code = main(["benchmark", *rest, *one])
        case ["deformsample", *rest]:
            code = main(rest)
        case other:
            raise AssertionError(f"no rule for {other}")
    assert code == 0, step.text


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of a reader of the first two tutorials."""
    folder = tmp_path_factory.mktemp("reader")
    before = Path.cwd()
    os.chdir(folder)
    try:
        follow(DATA)
        follow(DOCS / "worth_it.md")
    finally:
        os.chdir(before)
    return folder


@pytest.fixture
def reader(followed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that directory, as working directory."""
    folder = tmp_path / "reader"
    shutil.copytree(followed, folder)
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.slow
def test_own_data_and_the_prediction(followed: Path) -> None:
    assert (followed / "comparison.png").is_file()
    assert len(list((followed / "labels").iterdir())) == 6
    assert (followed / "curve.png").is_file()


@pytest.mark.slow
def test_how_many_samples(reader: Path) -> None:
    follow(DOCS / "how_many_samples.md")
    table = (reader / "runs" / "benchmark" / "budgets" / "results.md").read_text()
    assert "boundary target" in table


@pytest.mark.slow
def test_large_images(reader: Path) -> None:
    follow(DOCS / "large_images.md")
    with Image.open(reader / "labels.tif") as labels:
        assert labels.size == (16200, 5940)


@pytest.mark.slow
def test_deployment_gives_the_labels_of_the_model(reader: Path) -> None:
    follow(DOCS / "deployment.md")
    model = deformsample.load("atlas-model", kind=deformsample.SegmentationModel)
    exported = np.asarray(Image.open(reader / "labels.png"))
    assert np.array_equal(exported, model.segment("mine/new/atlas_18.png"))


def test_the_folder_of_the_tutorial_is_valid(
    in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_python(blocks(DATA, "python")[0], DATA)
    (in_tmp / "mine.yaml").write_text(blocks(DATA, "yaml")[0])
    assert main(["check", "--config", "mine.yaml"]) == 0
    assert capsys.readouterr().out in blocks(DATA, "text")


def test_every_tutorial_is_followed() -> None:
    index = (DOCS / "index.md").read_text()
    listed = index.partition(":caption: Tutorials")[2].partition("```")[0].split()[1:]
    followed = {"your_data", "worth_it", "how_many_samples", "large_images", "deployment"}
    assert set(listed) == followed | {"your_network"}  # which has tests of its own
