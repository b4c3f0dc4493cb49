"""Every shipped config through the real command line, on small trees."""

import csv
import json
import re
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import deformsample
from deformsample.cli.arguments import resolve_configs
from deformsample.cli.train import main
from deformsample.errors import ArgumentError
from deformsample.files.configs import find_config
from deformsample.inference.exporter import describe
from tests.helpers import SHORT, SMALL, naming, run_train, save, scene

TREES = {
    "camvid.yaml": "camvid_tree",
    "cityscapes.yaml": "cityscapes_tree",
    "cwfid.yaml": "cwfid_tree",
    "deepglobe.yaml": "deepglobe_tree",
    "folder.yaml": "folder_tree",
    "histology.yaml": "histology_tree",
    "hrf.yaml": "hrf_tree",
}


def metrics(run: Path) -> list[dict[str, float]]:
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{name: float(value) for name, value in row.items() if value} for row in rows]


def measured(run: Path, stage: str = "val") -> dict[str, float]:
    """The last row of measurements."""
    return [row for row in metrics(run) if f"{stage}/miou" in row][-1]


def fit(config: str, root: Path, output: Path, *more: str) -> Path:
    arguments = ["--config", config, f"--data.root={root}", f"--output={output}"]
    assert main([*arguments, *SMALL, *SHORT, *more]) == 0
    return output / "checkpoints" / "last.ckpt"


TITLES = {
    "learned": "learned",
    "learned_paper": "learned",
    "uniform": "uniform",
}


@pytest.mark.slow
@pytest.mark.parametrize("method", sorted(TITLES))
@pytest.mark.parametrize("config", sorted(TREES))
def test_every_data_set_with_every_method(
    config: str, method: str, request: pytest.FixtureRequest, in_tmp: Path
) -> None:
    root: Path = request.getfixturevalue(TREES[config])
    more = ["--config", f"method/{method}.yaml"]
    if config == "histology.yaml":
        more += ["--data.batch_size=1", "--model.segmenter.downsampler.sampled_size=4000"]
    checkpoint = fit(config, root, in_tmp / "run", *more)
    assert 0 <= measured(in_tmp / "run")["val/miou"] <= 1
    assert (checkpoint.parent / "best.ckpt").is_file()
    model = deformsample.load(checkpoint, kind=deformsample.SegmentationModel)
    assert model.segmenter.display_name == TITLES[method]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "display_name"),
    [
        ("detail", "local detail"),
        ("error_curves", "error curves"),
        ("boundary_gaussian", "learned"),
        ("fixed", "error curves"),
        ("edge_optimal_sampler", "edge-optimal"),
        ("edge_optimal", "edge-optimal"),
        ("separable", "separable"),
        ("separable_fixed", "separable"),
        ("two_pass", "error curves, two passes"),
        ("uniform_antialiased", "uniform"),
        ("uniform_bilinear", "uniform"),
    ],
)
def test_every_baseline(method: str, display_name: str, folder_tree: Path, in_tmp: Path) -> None:
    checkpoint = fit("folder.yaml", folder_tree, in_tmp / "run", f"--config=method/{method}.yaml")
    model = deformsample.load(checkpoint, kind=deformsample.SegmentationModel)
    assert model.segmenter.display_name == display_name


def test_classes_keep_their_order(
    folder_tree: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    classes = {"zebra": [9, 9, 9], "object": [8, 8, 8], "ape": [7, 7, 7]}
    dataset = {"init_args": {"classes": classes}}
    (in_tmp / "zoo.yaml").write_text(
        yaml.safe_dump({"data": {"dataset": dataset}}, sort_keys=False)
    )
    checkpoint = fit("folder.yaml", folder_tree, in_tmp / "run", "--config=zoo.yaml")
    capsys.readouterr()
    with pytest.raises(SystemExit, match="0"):
        main(["--config", "run/config.yaml", "--print_config"])
    for text in ((in_tmp / "run" / "config.yaml").read_text(), capsys.readouterr().out):
        written = yaml.safe_load(text)["data"]["dataset"]["init_args"]["classes"]
        assert list(written.items()) == list(classes.items())
    model = deformsample.load(checkpoint, kind=deformsample.SegmentationModel)
    model.save_pretrained(in_tmp / "folder_of_model")
    again = deformsample.load("folder_of_model", kind=deformsample.SegmentationModel)
    for names in (model.classes, again.classes, json.loads(describe(model, (9, 9))["classes"])):
        assert list(names) == list(classes)


def test_weights_are_not_downloaded_if_a_checkpoint_replaces_them(
    folder_tree: Path, in_tmp: Path
) -> None:
    auto = "--model.segmenter.network.weights=auto"
    resumable = ["--ckpt_path=last", auto]
    with pytest.warns(UserWarning, match=naming("hrnet_w18_small", "random")):
        checkpoint = fit("folder.yaml", folder_tree, in_tmp / "run", *resumable)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Cannot download")
        config = ["--config=run/config.yaml", f"--ckpt_path={checkpoint}", "--output=measured"]
        assert main(["validate", *config]) == 0
        fit("folder.yaml", folder_tree, in_tmp / "run", *resumable, "--trainer.max_epochs=2")
    network = yaml.safe_load((in_tmp / "run" / "config.yaml").read_text())["model"]["segmenter"][
        "init_args"
    ]["network"]
    assert network["init_args"]["weights"] == "auto"


def test_an_oracle_is_measured_but_does_not_predict(folder_tree: Path, in_tmp: Path) -> None:
    more = ["--config=method/edge_optimal_oracle.yaml"]
    checkpoint = fit("folder.yaml", folder_tree, in_tmp / "run", *more)
    assert 0 <= measured(in_tmp / "run")["val/miou"] <= 1
    image = folder_tree / "images" / "p0_1.png"
    with pytest.raises(ArgumentError, match="EdgeOptimalOracle"):
        deformsample.load(checkpoint, kind=deformsample.SegmentationModel).segment(image)


@pytest.mark.slow
def test_any_encoder_decoder_by_its_class_path(folder_tree: Path, in_tmp: Path) -> None:
    network = {
        "class_path": "segmentation_models_pytorch.Unet",
        "init_args": {"encoder_name": "resnet18", "encoder_weights": None},
    }
    segmenter = {"init_args": {"network": network, "network_multiple": 32}}
    (in_tmp / "unet.yaml").write_text(yaml.safe_dump({"model": {"segmenter": segmenter}}))
    arguments = [
        *("--config", "folder.yaml", "--config", "unet.yaml", f"--data.root={folder_tree}"),
        *("--output=run", *SHORT),
        "--model.segmenter.downsampler.sampled_size=[30,40]",
        *[option for option in SMALL if "network" not in option and "sampled" not in option],
    ]
    assert main(arguments) == 0
    model = deformsample.load("run/checkpoints/last.ckpt", kind=deformsample.SegmentationModel)
    assert model.segment(folder_tree / "images" / "p0_1.png").shape == (64, 96)


def test_quickstart_config_trains_on_its_own_data(in_tmp: Path) -> None:
    one = ["--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"]
    assert main(["--config", "quickstart.yaml", "--output=run", *SHORT, *one]) == 0
    assert "val/iou/water" in measured(in_tmp / "run")


def test_logs_hold_losses_metrics_and_pictures(hrf_tree: Path, in_tmp: Path) -> None:
    more = ["--trainer.log_every_n_steps=1", "--trainer.max_epochs=2"]
    fit("hrf.yaml", hrf_tree, in_tmp / "run", *more, "--trainer.check_val_every_n_epoch=2")
    names = {name for row in metrics(in_tmp / "run") for name in row}
    assert names >= {
        "train/loss",
        "train/segmentation",
        "train/density",
        "val/loss",
        "val/miou",
        "val/miou_warped",
        "val/iou/background",
        "val/iou/artery",
        "val/iou/vein",
        "val/iou/vessel",
        "lr-AdamW",
    }
    board = EventAccumulator(str(in_tmp / "run")).Reload()
    assert "val/sampling" in board.Tags()["images"]
    assert set(board.Tags()["scalars"]) >= {"train/loss", "val/miou"}


def test_runs_without_an_output_are_numbered(folder_tree: Path, in_tmp: Path) -> None:
    arguments = ["--config", "folder.yaml", "--config", "method/uniform.yaml", *SMALL, *SHORT]
    for _ in range(2):
        assert main([*arguments, f"--data.root={folder_tree}"]) == 0
    runs = in_tmp / "runs" / "folder-uniform"
    assert sorted(run.name for run in runs.iterdir()) == ["version_0", "version_1"]


def test_resuming_continues_the_epochs_and_keeps_the_old_run(
    folder_tree: Path, in_tmp: Path
) -> None:
    last = fit("folder.yaml", folder_tree, in_tmp / "first")
    before = (in_tmp / "first" / "metrics.csv").read_text()
    more = ["--trainer.max_epochs=3", f"--ckpt_path={last}"]
    fit("folder.yaml", folder_tree, in_tmp / "second", *more)
    epochs = {row["epoch"] for row in metrics(in_tmp / "second") if "val/miou" in row}
    assert epochs == {1.0, 2.0}
    assert (in_tmp / "first" / "metrics.csv").read_text() == before
    content = torch.load(in_tmp / "second" / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["epoch"] == 2
    assert torch.load(last, weights_only=True)["epoch"] == 0


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(folder_tree: Path, in_tmp: Path) -> None:
    weights = []
    for name in ("a", "b"):
        last = fit("folder.yaml", folder_tree, in_tmp / name)
        weights.append(torch.load(last, weights_only=True)["state_dict"])
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


def test_mixed_precision(folder_tree: Path, in_tmp: Path) -> None:
    fit("folder.yaml", folder_tree, in_tmp / "run", "--trainer.precision=bf16-mixed")
    assert np.isfinite(measured(in_tmp / "run")["val/loss"])


@pytest.mark.slow
def test_official_cityscapes_evaluator_agrees(cityscapes_tree: Path, in_tmp: Path) -> None:
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling

    last = fit("cityscapes.yaml", cityscapes_tree, in_tmp / "run", "--trainer.max_epochs=2")
    common = ["--config", "cityscapes.yaml", f"--data.root={cityscapes_tree}", *SMALL]
    for command in ("validate", "predict"):
        assert main([command, *common, f"--ckpt_path={last}", f"--output={command}"]) == 0
    ground_truth = sorted((cityscapes_tree / "gtFine" / "val").rglob("*_labelIds.png"))
    predictions = sorted((in_tmp / "predict" / "predictions").glob("*.png"))
    assert len(ground_truth) == len(predictions) == 3
    options = evalPixelLevelSemanticLabeling.args
    options.evalInstLevelScore, options.JSONOutput, options.quiet = False, False, True
    scores = evalPixelLevelSemanticLabeling.evaluateImgLists(
        [str(p) for p in predictions], [str(t) for t in ground_truth], options
    )
    ours = measured(in_tmp / "validate")
    assert ours["val/miou"] == pytest.approx(scores["averageScoreClasses"], abs=1e-6)
    for name, score in scores["classScores"].items():
        if not np.isnan(score):
            assert ours[f"val/iou/{name}"] == pytest.approx(score, abs=1e-6)


@pytest.mark.slow
def test_two_processes_measure_what_one_does(tmp_path: Path) -> None:
    root = tmp_path / "data"
    for n in range(9):  # five of them for validation, which two processes cannot share evenly
        image, ids = scene(n, 48, 64, classes=2)
        save(root / "images" / f"{n}.png", image)
        save(root / "labels" / f"{n}.png", ids)
    common = [
        *("--config", "folder.yaml", f"--data.root={root}", *SMALL),
        "--data.splitter.shares=[0.45,0.55,0.0]",
        "--trainer.max_epochs=1",
        "--model.loss.aux_loss=null",  # of a batch, and batches differ; cross-entropy is of pixels
    ]
    two = ["--trainer.devices=2", "--trainer.strategy=ddp"]
    run_train(tmp_path, "fit", *common, "--output=both", *two)
    last = f"--ckpt_path={tmp_path / 'both' / 'checkpoints' / 'last.ckpt'}"
    common = [argument for argument in common if "max_epochs" not in argument]
    assert main(["validate", *common, f"--output={tmp_path / 'one'}", last]) == 0
    # The run of two processes measured the same weights at its end.
    one, both = measured(tmp_path / "one"), measured(tmp_path / "both")
    means = {"val/loss", "val/segmentation", "val/auxiliary", "val/density"}
    assert {"val/loss", "val/segmentation", "val/miou"} < one.keys()
    for name in one:
        if name.startswith("val/") and name not in means:
            assert one[name] == both[name], name  # counts are summed exactly
    for name in means & one.keys():
        assert one[name] == pytest.approx(both[name], rel=1e-5)
    run_train(tmp_path, "predict", *common, "--output=written", last, *two)
    written = sorted(file.name for file in (tmp_path / "written" / "predictions").iterdir())
    assert len(written) == 5


# What goes wrong


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    code = main(list(arguments))
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    return code, lines[0]


def test_a_mistyped_key_is_refused_with_its_path(
    capsys: pytest.CaptureFixture[str], in_tmp: Path
) -> None:
    code, text = failure(capsys, "--config", "folder.yaml", "--model.segmenter.sampled_sise=[8,8]")
    assert code == 2
    assert "sampled_sise" in text
    (in_tmp / "mine.yaml").write_text("data:\n  batch_sise: 3\n")
    code, text = failure(capsys, "--config", "folder.yaml", "--config", "mine.yaml")
    assert code == 2
    assert "batch_sise" in text


def test_a_wrong_type_is_refused_with_its_path(
    capsys: pytest.CaptureFixture[str], in_tmp: Path
) -> None:
    code, text = failure(capsys, "--config", "folder.yaml", "--data.batch_size=many")
    assert code == 2
    assert "data.batch_size" in text


def test_a_missing_config_lists_the_shipped_ones(
    capsys: pytest.CaptureFixture[str], in_tmp: Path
) -> None:
    code, text = failure(capsys, "--config", "city.yaml")
    assert code == 1
    assert "cityscapes.yaml" in text


def test_a_missing_root_is_one_line_before_training(
    capsys: pytest.CaptureFixture[str], in_tmp: Path
) -> None:
    code, text = failure(
        capsys, "--config", "folder.yaml", "--data.root=nowhere", "--output=run", *SMALL
    )
    assert code == 1
    assert not (in_tmp / "run").exists()
    assert "nowhere/images" in text
    assert "--data.root PATH" in text


@pytest.mark.parametrize("workers", [0, 1])
def test_a_bad_label_found_while_training_is_one_line(
    capsys: pytest.CaptureFixture[str], folder_tree: Path, in_tmp: Path, workers: int
) -> None:
    for file in (folder_tree / "labels").iterdir():
        save(file, np.full((64, 96), 9, dtype=np.uint8))
    code, text = failure(
        capsys,
        *("--config", "folder.yaml", f"--data.root={folder_tree}", *SMALL, *SHORT),
        f"--data.num_workers={workers}",
    )
    assert code == 1
    assert re.search(naming(folder_tree / "labels", 0, 1, 255, 9), text)
    assert "Traceback" not in text


def test_a_used_output_folder_is_refused(
    capsys: pytest.CaptureFixture[str], folder_tree: Path, in_tmp: Path
) -> None:
    (in_tmp / "run").mkdir()
    (in_tmp / "run" / "metrics.csv").write_text("precious")
    code, text = failure(
        capsys, "--config", "folder.yaml", f"--data.root={folder_tree}", "--output=run", *SMALL
    )
    assert code == 1
    assert re.search(naming("--output", "run", "--ckpt_path last"), text)
    assert (in_tmp / "run" / "metrics.csv").read_text() == "precious"


def test_a_checkpoint_that_does_not_fit_is_one_line(
    capsys: pytest.CaptureFixture[str], folder_tree: Path, checkpoint: Path, in_tmp: Path
) -> None:
    common = ["validate", "--config", "folder.yaml", f"--data.root={folder_tree}", *SMALL]
    code, text = failure(capsys, *common, "--ckpt_path=no.ckpt")
    assert code == 1
    assert "no.ckpt" in text
    other = ["--config", "method/learned_paper.yaml", f"--ckpt_path={checkpoint}"]
    code, text = failure(capsys, *common, *other)
    assert code == 1
    assert re.search(naming(checkpoint, "config.yaml"), text)


def test_debug_shows_the_traceback(in_tmp: Path) -> None:
    with pytest.raises(ArgumentError):
        main(["--config", "city.yaml", "--debug"])


def test_print_config_prints_all_that_a_run_uses(
    capsys: pytest.CaptureFixture[str], in_tmp: Path
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--config", "hrf.yaml", "--print_config"])
    assert stop.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    downsampler = printed["model"]["segmenter"]["init_args"]["downsampler"]
    assert downsampler["init_args"]["sampled_size"] == [146, 219]
    assert printed["trainer"]["max_epochs"] == 30


def test_configs_are_found_here_first(in_tmp: Path) -> None:
    (in_tmp / "folder.yaml").write_text("data: {}")
    assert find_config("folder.yaml") == Path("folder.yaml")
    assert resolve_configs(["fit", "--config=folder.yaml", "--x"]) == (
        ["fit", "--config", "folder.yaml", "--x"],
        ["folder"],
    )
    assert find_config("method/uniform.yaml").parent.name == "method"


def test_balanced_classes_are_counted_once_and_kept(cwfid_tree: Path, in_tmp: Path) -> None:
    more = [
        "--model.loss.density.class_weights=balanced",
        "--model.loss.density.important={crop: 2}",
    ]
    last = fit("cwfid.yaml", cwfid_tree, in_tmp / "run", *more)
    kept = torch.load(last, weights_only=True)["SegmentationDataModule"]["shares"]
    counts = np.zeros(3)
    for n in range(3):
        ids = np.asarray(Image.open(cwfid_tree / "labels" / f"{n:03}.png"))
        counts += np.bincount(ids[ids < 255], minlength=3)
    assert kept == pytest.approx((counts / counts.sum()).tolist())
    for label in (cwfid_tree / "labels").iterdir():  # a run that goes on does not count again
        pixels = np.asarray(Image.open(label)).copy()
        pixels[pixels == 1] = 2
        Image.fromarray(pixels).save(label)
    more += ["--trainer.max_epochs=2", "--ckpt_path=last"]
    again = fit("cwfid.yaml", cwfid_tree, in_tmp / "run", *more)
    assert torch.load(again, weights_only=True)["SegmentationDataModule"]["shares"] == kept
    unknown = ["--model.loss.density.important={wheat: 2}"]
    arguments = ["--config=cwfid.yaml", f"--data.root={cwfid_tree}", "--output=other"]
    assert main([*arguments, *SMALL, *SHORT, *unknown]) == 1


def test_a_checkpoint_keeps_what_its_curves_predict(cwfid_tree: Path, in_tmp: Path) -> None:
    last = fit("cwfid.yaml", cwfid_tree, in_tmp / "run", "--config=method/error_curves.yaml")
    card = torch.load(last, weights_only=True)["deformsample"]["card"]
    curve = card["budget_curve"]
    at = curve["budgets"].index(1.0)
    assert curve["uniform"][at] == pytest.approx(1)
    assert 0 < curve["sampled"][at] <= 1
    assert curve["uniform"] == sorted(curve["uniform"], reverse=True)
    assert {"val/segmentation", "val/auxiliary", "val/density"} <= set(card["metrics"])


def test_training_without_tensorboard_logs_to_csv(
    folder_tree: Path,
    in_tmp: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    checkpoint = fit("folder.yaml", folder_tree, in_tmp / "run")
    assert checkpoint.is_file()
    assert (in_tmp / "run" / "config.yaml").is_file()
    assert 0 <= measured(in_tmp / "run")["val/miou"] <= 1
    assert not list((in_tmp / "run").glob("events*"))
    assert capsys.readouterr().out.count("TensorBoard is not installed") == 1
    more = ["--ckpt_path=last", "--trainer.max_epochs=2"]
    fit("folder.yaml", folder_tree, in_tmp / "run", *more)
    assert {row.get("epoch") for row in metrics(in_tmp / "run")} >= {0.0, 1.0}
