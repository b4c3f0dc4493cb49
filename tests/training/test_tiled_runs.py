"""A tiled segmenter through the command lines, beside a sampled one."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml
from PIL import Image

import deformsample
from deformsample.cli.main import main
from deformsample.conventions import Pixels
from deformsample.errors import ArgumentError
from deformsample.evaluation.report import read_csv
from deformsample.files.label_tiff import write_label_tiff
from deformsample.files.slides import TiffImage
from deformsample.samplers import OutOfCoreImage
from deformsample.segmenters import SampledSegmenter, TiledSegmenter
from tests.helpers import naming, save, scene

TINY = [
    "--model.segmenter.network=deformsample.networks.UNet",
    "--model.segmenter.network.widths=[4,4]",
    "--model.segmenter.tile=[24,32]",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.max_epochs=1",
    "--trainer.check_val_every_n_epoch=1",
    "--data.num_workers=0",
    "--data.batch_size=2",
]
CONFIGS = ["--config=folder.yaml", "--config=method/tiled.yaml"]


@pytest.fixture(scope="module")
def last(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for n in range(6):
        image, ids = scene(n, 64, 96, classes=2)
        save(root / "images" / f"{n}.png", image)
        save(root / "labels" / f"{n}.png", ids)
    run = tmp_path_factory.mktemp("tiled")
    assert main(["fit", *CONFIGS, f"--data.root={root}", f"--output={run}", *TINY]) == 0
    return run / "checkpoints" / "last.ckpt"


@pytest.fixture
def config(last: Path) -> str:
    return f"--config={last.parents[1] / 'config.yaml'}"


def test_a_tiled_run_from_training_to_label_maps(
    last: Path, config: str, in_tmp: Path, image: Pixels, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (last.parent / "best.ckpt").is_file()
    for command in ("validate", "test", "predict"):
        common = [config, f"--ckpt_path={last}", f"--output={command}"]
        assert main([command, *common]) == 0
    written = list(Path("predict/predictions").iterdir())
    assert len(written) == 1
    assert np.asarray(Image.open(written[0])).shape == (64, 96)

    model = deformsample.load(last, kind=deformsample.SegmentationModel)
    assert isinstance(model.segmenter, TiledSegmenter)
    assert model.segmenter.display_name == "tiles of 24 x 32, overlap 0.5"
    file = save(Path("photo.png"), image)
    labels = model.segment(file)
    assert labels.shape == (70, 110)
    assert main(["segment", str(last), str(file), "--output=labels"]) == 0
    assert np.array_equal(np.asarray(Image.open("labels/photo.png")), labels)

    model.save_pretrained("shared")
    assert np.array_equal(
        deformsample.load("shared", kind=deformsample.SegmentationModel).segment(file), labels
    )

    capsys.readouterr()
    assert main(["info", str(last)]) == 0
    assert (
        "TiledSegmenter (tile [24, 32], overlap 0.5, blending constant" in capsys.readouterr().out
    )


@pytest.mark.slow
def test_measures_of_a_tiled_run(
    last: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["measure", str(last), config]
    capsys.readouterr()
    assert main(common) == 0
    scores = json.loads(capsys.readouterr().out)
    assert 0 < scores["miou"] <= 1
    assert "upper_bound" not in scores
    assert main([*common, "--cost"]) == 0
    costs = json.loads(capsys.readouterr().out)
    assert costs["pixels"] == 5 * 5 * 24 * 32  # of 64 x 96 pixels
    assert costs["seconds/density"] == 0
    assert costs["seconds/network"] > 0
    assert costs["seconds/unwarp"] > 0
    assert main([*common, "--guided"]) == 1
    assert re.search(naming("guided", "tiles"), capsys.readouterr().err)


def test_what_only_samples_can_do_is_said(
    last: Path, image: Pixels, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ArgumentError, match=naming("tiles of 24 x 32, overlap 0.5")):
        deformsample.load(last, kind=deformsample.SegmentationModel).downsample(image)
    file = save(Path("photo.png"), image)
    assert main(["downsample", str(last), str(file), "--output=small"]) == 1
    assert "tiles of 24 x 32" in capsys.readouterr().err


def test_a_tiled_and_a_sampled_checkpoint_in_one_picture(
    last: Path, config: str, checkpoint: Path, in_tmp: Path
) -> None:
    both = ["compare", str(last), str(checkpoint), config]
    assert main([*both, "--output=both.png", "--regions=regions.png"]) == 0
    assert Path("both.png").stat().st_size > 10_000


def test_a_loss_that_needs_a_grid_is_one_line(
    folder_tree: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--model.loss=deformsample.losses.FullResolutionLoss", "--output=run"]
    assert main(["fit", *CONFIGS, f"--data.root={folder_tree}", *TINY, *more]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(naming("model.loss.class_path", "deformsample.losses.TileLoss"), error)


def test_large_files_are_segmented_in_rows_of_tiles(last: Path, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (300, 90, 3), dtype=np.uint8)
    file = tmp_path / "large.tif"
    tifffile.imwrite(file, pixels, photometric="rgb", tile=(64, 64))
    model = deformsample.load(last, kind=deformsample.SegmentationModel)
    with TiffImage(file) as large:
        source = OutOfCoreImage(large, model.device)
        bands = model.label_bands(source)
        write_label_tiff(bands, source.size, model.classes, tmp_path / "labels.tif")
    assert np.array_equal(tifffile.imread(tmp_path / "labels.tif"), model.segment(pixels))


@pytest.mark.slow
def test_a_benchmark_sets_the_size_of_a_tile(folder_tree: Path, in_tmp: Path) -> None:
    network = {"class_path": "deformsample.networks.UNet", "init_args": {"widths": [4, 4]}}
    segmenter = {
        "class_path": "deformsample.segmenters.SampledSegmenter",
        "init_args": {"network": network},
    }
    small = {
        "model": {"segmenter": segmenter},
        "trainer": {"accelerator": "cpu", "max_epochs": 1},
        "data": {"root": str(folder_tree), "num_workers": 0, "batch_size": 2},
    }
    (in_tmp / "small.yaml").write_text(yaml.safe_dump(small))
    plan = {
        "configs": ["folder.yaml", "small.yaml"],
        "budgets": {"small": [16, 24]},
        "seeds": [0],
        "classes": ["object"],
        "methods": {
            "uniform": {"configs": ["method/uniform.yaml"], "baseline": True},
            "tiled": {"configs": ["method/tiled.yaml"], "size": "tile"},
        },
    }
    (in_tmp / "plan.yaml").write_text(yaml.safe_dump(plan, sort_keys=False))
    command = ["benchmark", "--config", "plan.yaml", "--output", "out"]
    assert main([*command, "--method", "tiled", "--jobs", "2"]) == 0
    rows = read_csv(in_tmp / "out" / "results.csv")
    assert [row.method for row in rows] == ["tiled"]
    assert rows[0].cost["pixels"] == 7 * 7 * 16 * 24
    table = (in_tmp / "out" / "results.md").read_text()
    assert "| tiled | " in table


def test_both_kinds_are_segmenters(last: Path, checkpoint: Path) -> None:
    kinds = [
        type(deformsample.load(file, kind=deformsample.SegmentationModel).segmenter)
        for file in (last, checkpoint)
    ]
    assert kinds == [TiledSegmenter, SampledSegmenter]
    image = torch.rand(2, 3, 40, 50)
    for file in (last, checkpoint):
        labels = deformsample.load(file, kind=deformsample.SegmentationModel).segment(image)
        assert labels.shape == (2, 40, 50)
        assert labels.dtype == torch.uint8
