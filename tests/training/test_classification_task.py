"""Classification of whole images through the real command line, on small trees."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest
import torch

import deformsample
from deformsample.cli.arguments import named_task
from deformsample.cli.main import main
from deformsample.errors import CheckpointError
from tests.helpers import naming, run_train, save

TINY = [
    "--model.classifier.network=deformsample.networks.ConvClassifier",
    "--model.classifier.network.widths=[4,8]",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
    "--trainer.enable_model_summary=false",
    "--trainer.check_val_every_n_epoch=1",
    "--data.num_workers=0",
]
SHORT = ["--trainer.max_epochs=1"]
SPLIT = [*["train"] * 6, *["val"] * 5, "test"]


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Dark and bright images, and a list of them with classes and with scores."""
    root = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    rows: dict[str, list[str]] = {"classes": [], "scores": []}
    for n in range(12):
        name, level = ("bright", 170) if n % 2 else ("dark", 80)
        pixels = random.normal(level, 20, (32, 48, 3)).clip(0, 255).astype(np.uint8)
        save(root / name / f"{n // 2}.png", pixels)
        row = f"{name}/{n // 2}.png,%s,{SPLIT[n]}"
        rows["classes"].append(row % name)
        rows["scores"].append(row % pixels.mean())
    for kind, lines in rows.items():
        (root / f"{kind}.csv").write_text("\n".join(["path,label,split", *lines]) + "\n")
    return root


def listed(root: Path, kind: str) -> list[str]:
    return [
        f"--data.root={root}",
        "--data.dataset=deformsample.data.CsvDataset",
        f"--data.dataset.file={kind}.csv",
    ]


def fit(output: Path, *arguments: str) -> Path:
    assert main(["fit", *arguments, f"--output={output}", *TINY]) == 0
    return output / "checkpoints" / "last.ckpt"


def last_row(run: Path, name: str) -> dict[str, float]:
    with (run / "metrics.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row.get(name)]
    return {key: float(value) for key, value in rows[-1].items() if value}


@pytest.fixture(scope="module")
def trained(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run")
    more = ["--data.batch_size=2", "--trainer.max_epochs=12", "--model.optimizer.lr=0.01"]
    size = "--model.classifier.downsampler.sampled_size=[12,16]"
    config = "--config=classification/uniform.yaml"
    return fit(run, config, *listed(tree, "classes"), *more, size)


def test_a_run_from_training_to_scores(
    trained: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = trained.parents[1]
    measured = last_row(run, "val/accuracy")
    assert measured["val/accuracy"] == 1  # dark and bright can be told apart
    assert measured["val/auroc"] == measured["val/auroc/dark"] == 1
    assert measured["val/confusion/dark/dark"] == 3
    assert measured["val/confusion/bright/bright"] == 2
    assert measured["val/confusion/dark/bright"] == 0
    assert (trained.parent / "best.ckpt").is_file()

    common = [f"--config={run / 'config.yaml'}", f"--ckpt_path={trained}"]
    for command in ("validate", "test", "predict"):
        assert main([command, *common, f"--output={command}"]) == 0
    assert last_row(Path("test"), "test/accuracy")["test/accuracy"] == 1
    assert "scores: predict/scores.csv" in capsys.readouterr().out
    with Path("predict/scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "bright", "dark", "class"]
    assert [row["class"] for row in rows] == ["dark", "bright", "dark", "bright", "dark"]
    assert all(float(row["bright"]) + float(row["dark"]) == pytest.approx(1) for row in rows)

    model = deformsample.load(trained, kind=deformsample.ClassificationModel)
    for row in rows:
        scores, classes = model.classify(row["path"])
        assert classes == [row["class"]]
        assert scores[0].tolist() == pytest.approx([float(row["bright"]), float(row["dark"])], 1e-4)


@pytest.mark.slow
def test_two_processes_write_one_file(trained: Path, in_tmp: Path) -> None:
    run = trained.parents[1]
    common = ["predict", f"--config={run / 'config.yaml'}", f"--ckpt_path={trained}"]
    assert main([*common, "--output=one"]) == 0
    two = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    run_train(in_tmp, *common, *two, "--output=two")  # five images, which cannot be shared evenly
    one, both = (Path(x, "scores.csv").read_text().splitlines() for x in ("one", "two"))
    assert [row.split(",")[::3] for row in one] == [row.split(",")[::3] for row in both]


def test_a_classifier_is_no_segmenter(
    trained: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(CheckpointError, match=naming(trained, "ClassificationModel")):
        deformsample.load(trained, kind=deformsample.SegmentationModel)
    with pytest.raises(CheckpointError, match=naming(checkpoint, "SegmentationModel")):
        deformsample.load(checkpoint, kind=deformsample.ClassificationModel)
    assert main(["info", str(trained)]) == 0
    assert "ConvClassifier" in capsys.readouterr().out
    assert main(["measure", str(checkpoint), "--config=hrf_disease.yaml"]) == 1
    assert re.search(naming("hrf_disease.yaml", "classification"), capsys.readouterr().err)


@pytest.mark.parametrize("aggregation", ["majority", "mean", "maximum"])
def test_tiles(aggregation: str, tree: Path, in_tmp: Path) -> None:
    more = ["--model.classifier.tile=[16,16]", f"--model.classifier.aggregation={aggregation}"]
    config = "--config=classification/tiles.yaml"
    last = fit(in_tmp / "run", config, f"--data.root={tree}", *more, *SHORT)
    assert 0 <= last_row(in_tmp / "run", "val/accuracy")["val/accuracy"] <= 1
    model = deformsample.load(last, kind=deformsample.ClassificationModel)
    assert model.classifier.display_name == f"tiles of 16 x 16, {aggregation}"
    scores, classes = model.classify(torch.rand(2, 3, 40, 40))
    assert scores.sum(dim=1).tolist() == pytest.approx([1, 1])
    assert len(classes) == 2


def test_learned_downsampling_trains_the_sampler(tree: Path, in_tmp: Path) -> None:
    more = ["--model.classifier.downsampler.sampled_size=[12,16]"]
    more += ["--model.optimizer.weight_decay=0"]  # so that nothing but the loss moves a weight
    config = "--config=classification/learned.yaml"
    lasts = [
        fit(
            in_tmp / f"run{n}", config, *listed(tree, "classes"), *more, f"--trainer.max_epochs={n}"
        )
        for n in (1, 2)
    ]
    weights = [torch.load(last, weights_only=True)["state_dict"] for last in lasts]
    name = "classifier.downsampler.sampler.network.layers.0.weight"
    assert not torch.equal(weights[0][name], weights[1][name])
    assert (
        deformsample.load(lasts[1], kind=deformsample.ClassificationModel).classifier.display_name
        == "learned"
    )


def test_streaming(tree: Path, in_tmp: Path) -> None:
    more = ["--model.classifier.tile=16", "--data.level=1"]
    config = "--config=classification/streamed.yaml"
    last = fit(in_tmp / "run", config, f"--data.root={tree}", *more, *SHORT)
    model = deformsample.load(last, kind=deformsample.ClassificationModel)
    assert model.classifier.display_name == "streamed in tiles of 16"
    assert model.level == 1
    assert model.classify(tree / "dark" / "0.png").scores.shape == (1, 2)


def test_a_score_for_each_image(tree: Path, in_tmp: Path) -> None:
    more = [*listed(tree, "scores"), "--data.dataset.label=score"]
    last = fit(in_tmp / "run", "--config=classification/tiles.yaml", *more, *SHORT)
    measured = last_row(in_tmp / "run", "val/spearman")
    assert -1 <= measured["val/spearman"] <= 1
    assert "val/accuracy" not in measured
    common = [f"--config={in_tmp / 'run' / 'config.yaml'}", f"--ckpt_path={last}"]
    assert main(["predict", *common, "--output=predict"]) == 0
    with Path("predict/scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["path", "score"]
    scores, classes = deformsample.load(last, kind=deformsample.ClassificationModel).classify(
        rows[0]["path"]
    )
    assert classes == []
    assert scores.item() == pytest.approx(float(rows[0]["score"]), rel=1e-4)


def test_hrf_in_folds(hrf_tree: Path, in_tmp: Path) -> None:
    more = [f"--data.root={hrf_tree}", "--data.batch_size=1", *SHORT]
    fit(in_tmp / "run", "--config=hrf_disease.yaml", "--config=classification/learned.yaml", *more)
    measured = last_row(in_tmp / "run", "val/accuracy")
    assert measured["val/confusion/diabetic retinopathy/healthy"] in (0, 1)


def test_the_last_task_that_is_named_counts(tmp_path: Path) -> None:
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("task: classification\n")
    second.write_text("data: {}\n")
    configs = ["fit", "--config", str(first), "--config", str(second)]
    assert named_task(configs) == "classification"
    assert named_task([*configs, "--task=segmentation"]) == "segmentation"
    assert named_task(["fit", "--task", "classification"]) == "classification"
    assert named_task(["fit"]) == "segmentation"


def test_a_task_that_is_not_known(in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--task=detection"]) == 1
    assert re.search(naming("task", "'classification'", "'detection'"), capsys.readouterr().err)
