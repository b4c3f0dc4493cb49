"""Using a checkpoint: from Python, and by the command line."""

import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import deformsample
from deformsample.cli.main import main
from deformsample.conventions import Pixels
from deformsample.errors import ArgumentError, CheckpointError, DataError
from deformsample.files.sampled_png import SampledImage, read_sampled, write_sampled
from deformsample.samplers.image_source import as_pixels
from tests.helpers import naming, save, scene

CLASSES = ["background", "object"]


def test_a_checkpoint_needs_no_config(checkpoint: Path, image: Pixels) -> None:
    model = deformsample.load(checkpoint, kind=deformsample.SegmentationModel)
    assert list(model.classes) == CLASSES
    assert not model.training
    labels = model.segment(image)
    assert isinstance(labels, np.ndarray)
    assert labels.shape == (70, 110)
    assert labels.dtype == np.uint8


def test_a_loaded_model_has_the_weights_of_the_checkpoint(checkpoint: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)["state_dict"]
    for name, value in (
        deformsample.load(checkpoint, kind=deformsample.SegmentationModel)
        .segmenter.state_dict()
        .items()
    ):
        assert torch.equal(value, state[f"segmenter.{name}"])


def test_file_array_and_tensor_give_the_same_labels(
    checkpoint: Path, image: Pixels, tmp_path: Path
) -> None:
    model = deformsample.load(checkpoint, kind=deformsample.SegmentationModel)
    file = save(tmp_path / "image.png", image)
    from_file = model.segment(file)
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy())
    assert np.array_equal(model.segment(str(file)), from_file)
    assert np.array_equal(model.segment(image), from_file)
    assert np.array_equal(model.segment(tensor).numpy(), from_file)
    both = model.segment(torch.stack((tensor, tensor.flip(-1))))
    assert both.shape == (2, 70, 110)
    assert np.array_equal(both[0].numpy(), from_file)
    arrays = model.segment(np.stack((image, image[:, ::-1])))
    assert isinstance(arrays, np.ndarray)
    assert np.array_equal(arrays, both.numpy())


def test_downsample_and_restore_fit_each_other(checkpoint: Path, image: Pixels) -> None:
    model = deformsample.load(checkpoint, kind=deformsample.SegmentationModel)
    small, grid, density = model.downsample(image)[:3]
    assert small.shape == (1, 3, 16, 24)
    assert grid.shape == (1, 16, 24, 2)
    assert float(density.sum()) == pytest.approx(1, abs=1e-5)
    back = model.restore(small, grid, (70, 110))
    original = torch.from_numpy(image.transpose(2, 0, 1) / 255)[None]
    assert float((back - original).abs().mean()) < 0.1


def test_wrong_images_are_named(checkpoint: Path, tmp_path: Path) -> None:
    model = deformsample.load(checkpoint, kind=deformsample.SegmentationModel)
    with pytest.raises(ArgumentError, match=naming((8, 8, 4))):
        model.segment(np.zeros((8, 8, 4), dtype=np.uint8))
    with pytest.raises(ArgumentError, match=naming((8, 8, 3), "channels")):
        model.segment(torch.zeros(8, 8, 3))
    with pytest.raises(DataError, match=naming(tmp_path / "no.png")):
        model.segment(tmp_path / "no.png")


def test_files_that_are_no_checkpoints_are_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=naming(tmp_path / "no.ckpt")):
        deformsample.load(tmp_path / "no.ckpt", kind=deformsample.SegmentationModel)
    (tmp_path / "text.ckpt").write_text("hello")
    with pytest.raises(CheckpointError, match=naming(tmp_path / "text.ckpt")):
        deformsample.load(tmp_path / "text.ckpt", kind=deformsample.SegmentationModel)
    torch.save({"a": torch.zeros(1)}, tmp_path / "tensor.ckpt")
    with pytest.raises(CheckpointError, match=naming(tmp_path / "tensor.ckpt")):
        deformsample.load(tmp_path / "tensor.ckpt", kind=deformsample.SegmentationModel)
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    with pytest.raises(CheckpointError, match=naming(tmp_path / "other.ckpt")):
        deformsample.load(tmp_path / "other.ckpt", kind=deformsample.SegmentationModel)


def test_a_truncated_checkpoint_is_named(checkpoint: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.ckpt"
    cut.write_bytes(checkpoint.read_bytes()[:-5000])
    with pytest.raises(CheckpointError, match=naming(cut)):
        deformsample.load(cut, kind=deformsample.SegmentationModel)


def test_code_in_a_checkpoint_is_not_executed(tmp_path: Path) -> None:
    class Planted:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "executed",))

    with (tmp_path / "planted.ckpt").open("wb") as file:
        pickle.dump({"state_dict": Planted()}, file)
    torch.save({"state_dict": Planted()}, tmp_path / "planted2.ckpt")
    for name in ("planted.ckpt", "planted2.ckpt"):
        with pytest.raises(CheckpointError, match=naming(tmp_path / name)):
            deformsample.load(tmp_path / name, kind=deformsample.SegmentationModel)
    assert not (tmp_path / "executed").exists()


def test_a_checkpoint_that_names_another_class_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["deformsample"]["segmenter"]["class_path"] = "subprocess.Popen"
    torch.save(content, tmp_path / "hostile.ckpt")
    with pytest.raises(CheckpointError, match=naming("hostile.ckpt", "subprocess.Popen")):
        deformsample.load(tmp_path / "hostile.ckpt", kind=deformsample.SegmentationModel)


def test_a_model_is_saved_and_loaded_in_the_layout_of_the_hub(
    checkpoint: Path, image: Pixels, tmp_path: Path
) -> None:
    model = deformsample.load(checkpoint, kind=deformsample.SegmentationModel)
    model.save_pretrained(tmp_path / "hub")
    assert sorted(file.name for file in (tmp_path / "hub").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
    again = deformsample.load(tmp_path / "hub", kind=deformsample.SegmentationModel)
    assert list(again.classes.items()) == list(model.classes.items())
    assert np.array_equal(again.segment(image), model.segment(image))
    (tmp_path / "hub" / "model.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match=naming("model.safetensors", tmp_path / "hub")):
        deformsample.load(tmp_path / "hub", kind=deformsample.SegmentationModel)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        deformsample.load(tmp_path, kind=deformsample.SegmentationModel)


def test_info_prints_the_card_of_a_checkpoint(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", str(checkpoint)]) == 0
    printed = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    card = {name: value.strip() for name, value in printed.items()}
    assert card["classes"] == "background, object"
    assert card["samples"] == "16 x 24"
    assert card["sampler"] == "LearnedSampler"
    assert card["grid"] == "TransportGrid (minimum 0.1, iterations 8)"
    assert card["trained"] == "1 epochs, 2 steps"
    assert card["data"] == "Folder"
    assert 0 <= float(card["val/miou"]) <= 1
    assert card["deformsample"] == deformsample.__version__
    assert "predicted error" not in card
    assert main(["info", str(tmp_path / "none.ckpt")]) == 1


def test_info_prints_and_draws_what_error_curves_predict(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["deformsample"]["card"]["budget_curve"] = {
        "budgets": [0.5, 1.0, 2.0, 4.0],
        "uniform": [1.4, 1.0, 0.7, 0.5],
        "sampled": [0.9, 0.7, 0.5, 0.3],
        "elasticity": 0.5,
    }
    file = tmp_path / "curves.ckpt"
    torch.save(content, file)
    target = tmp_path / "new" / "curve.png"
    assert main(["info", str(file), str(checkpoint), "--figure", str(target)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == str(target)
    assert target.stat().st_size > 5000
    card = {line.split("  ", 1)[0]: line.split("  ", 1)[-1].strip() for line in lines}
    assert card["predicted error"].startswith("0.70 of that of uniform sampling")
    assert card["predicted worth"] == "that of 2.0 times as many uniform samples"
    assert card["with 4 x the samples"] == "error 0.30 (uniform sampling 0.50)"
    assert main(["info", str(checkpoint), "--figure", str(target)]) == 1
    wanted = naming("--figure", checkpoint, "method/error_curves.yaml")
    assert re.search(wanted, capsys.readouterr().err)


def test_segment_writes_a_label_map_for_each_image(
    checkpoint: Path, image: Pixels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(save(tmp_path / f"{name}.jpg", image)) for name in ("a", "b")]
    output = tmp_path / "out"
    assert main(["segment", str(checkpoint), *files, "--output", str(output)]) == 0
    assert "2 of 2 images" in capsys.readouterr().out
    model = deformsample.load(checkpoint, kind=deformsample.SegmentationModel)
    assert np.array_equal(np.asarray(Image.open(output / "a.png")), model.segment(files[0]))
    assert main(["segment", str(checkpoint), files[0], "--output", str(output), "--guided"]) == 0
    guided = model.segment(files[0], guided=True)
    assert np.array_equal(np.asarray(Image.open(output / "a.png")), guided)


def test_downsample_writes_image_grid_and_density(
    checkpoint: Path, image: Pixels, tmp_path: Path
) -> None:
    file = str(save(tmp_path / "a.png", image))
    output = tmp_path / "out"
    assert main(["downsample", str(checkpoint), file, "--output", str(output)]) == 0
    assert Image.open(output / "a.png").size == (24, 16)
    held = read_sampled(output / "a.png")
    model = deformsample.load(checkpoint, kind=deformsample.SegmentationModel)
    small, grid, density = model.downsample(file)[:3]
    assert np.array_equal(held.pixels, as_pixels(small[0]))
    assert np.array_equal(held.grid, grid[0].numpy())
    assert np.array_equal(held.density, density[0, 0].numpy())
    assert held.size == (70, 110)
    assert [path.name for path in output.iterdir()] == ["a.png"]


@pytest.mark.parametrize("model", ["detail", "uniform"])
def test_downsample_and_restore_without_a_checkpoint(
    model: str, image: Pixels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for n in range(2):
        save(tmp_path / "photos" / f"{n}.png", np.roll(image, n, axis=1))
    small, restored = tmp_path / "small", tmp_path / "restored"
    photos = str(tmp_path / "photos")
    options = ["--pixels", "1500", "--jobs", "2"]
    assert main(["downsample", model, photos, "--output", str(small), *options]) == 0
    held = read_sampled(small / "1.png")
    assert held.pixels.shape[0] * held.pixels.shape[1] <= 1500
    assert main(["restore", str(small / "*.png"), "--output", str(restored)]) == 0
    back = np.asarray(Image.open(restored / "0.png"))
    assert back.shape == image.shape
    assert float(np.abs(back.astype(float) - image).mean()) < 12
    capsys.readouterr()
    again = ["restore", f"@{tmp_path / 'list.txt'}", "--output", str(restored), "--skip-existing"]
    (restored / "1.png").unlink()
    (tmp_path / "list.txt").write_text(f"{small}\n\n{small / '0.png'}\n")
    assert main(again) == 0
    assert "1 of 2 images written" in capsys.readouterr().out


def test_a_picture_without_places_is_not_restored(
    image: Pixels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save(tmp_path / "a.png", image)
    out = ["--output", str(tmp_path / "out")]
    assert main(["restore", str(file), *out]) == 1
    assert re.search(naming(file, "deformsample downsample"), capsys.readouterr().err)
    held = SampledImage(image, np.zeros((3, 4, 2), np.float32), np.ones((2, 2), np.float32), (9, 9))
    write_sampled(file, held)
    assert main(["restore", str(file), *out]) == 1
    assert re.search(naming(file, (3, 4, 2), (70, 110)), capsys.readouterr().err)
    write_sampled(file, held._replace(grid=np.zeros((700, 1100, 2), np.float32)))
    with pytest.raises(DataError, match=naming(file, "grid.npy")):
        read_sampled(file)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["detail", "EMPTY"], "EMPTY"),
        (["detail", "none*.png"], "none*.png"),
        (["detail", "@none.txt"], "none.txt"),
        (["detail", "a.png", "--pixels", "3"], "`--pixels`"),
        (["last.ckpt", "a.png", "--pixels", "90"], "`--pixels`"),
        (["detail", "a.png", "--jobs", "0"], "`--jobs`"),
    ],
)
def test_wrong_options_for_many_images_are_named(
    given: list[str], message: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (in_tmp / "EMPTY").mkdir()
    assert main(["downsample", *given, "--output", "out"]) == 1
    assert message in capsys.readouterr().err


def test_a_bad_image_does_not_stop_the_others(
    checkpoint: Path, image: Pixels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good = save(tmp_path / "good.png", image)
    bad = tmp_path / "bad.png"
    bad.write_bytes(good.read_bytes()[:-300])
    output = tmp_path / "out"
    arguments = ["segment", str(checkpoint), str(bad), str(good), "--output", str(output)]
    assert main(arguments) == 1
    assert (output / "good.png").is_file()
    captured = capsys.readouterr()
    assert "1 of 2 images written" in captured.out
    assert re.search(naming("1 of 2", "bad.png"), captured.err)


def test_outputs_never_overwrite_inputs_or_each_other(
    checkpoint: Path, image: Pixels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = save(tmp_path / "a.png", image)
    before = file.read_bytes()
    assert main(["segment", str(checkpoint), str(file), "--output", str(tmp_path)]) == 1
    assert str(file) in capsys.readouterr().err
    assert file.read_bytes() == before
    other = save(tmp_path / "b" / "a.jpg", image)
    out = str(tmp_path / "out")
    assert main(["segment", str(checkpoint), str(file), str(other), "--output", out]) == 1
    assert re.search(naming(file, other, tmp_path / "out" / "a.png"), capsys.readouterr().err)


def annotated(root: Path) -> list[str]:
    """Write six images with labels of two classes; the options that select them."""
    for n in range(6):
        picture, ids = scene(n, 64, 96, classes=2)
        save(root / "images" / f"{n}.png", picture)
        save(root / "labels" / f"{n}.png", ids)
    return ["--config", "folder.yaml", "--root", str(root)]


@pytest.mark.slow
def test_compare_draws_with_and_without_truth(
    checkpoint: Path, image: Pixels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [str(checkpoint), str(checkpoint)]
    file = str(save(tmp_path / "a.png", image))
    target = tmp_path / "pictures" / "compare.png"
    assert main(["compare", *both, "--image", file, "--output", str(target)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(target)
    wide, _ = Image.open(target).size
    arguments = [*annotated(tmp_path / "data"), "--output", str(target)]
    assert main(["compare", *both, *arguments]) == 0
    assert "learned (1): IoU background" in capsys.readouterr().out
    assert Image.open(target).size[0] > wide
    other = torch.load(checkpoint, weights_only=True)
    for name, weight in other["state_dict"].items():
        if name.startswith("segmenter.network.head") and weight.shape == (2,):
            weight += torch.tensor([0.0, 9.0])  # other labels
    torch.save(other, tmp_path / "other.ckpt")
    regions = tmp_path / "regions.png"
    assert main(["compare", *both, *arguments, "--regions", str(regions)]) == 0
    assert "agree on every pixel" in capsys.readouterr().out
    others = [str(checkpoint), str(tmp_path / "other.ckpt")]
    differing = ["compare", *others, "--regions", str(regions)]
    assert main([*differing, *arguments]) == 0
    assert Image.open(regions).size[1] > 400
    assert main([*differing, "--image", file, "--output", str(target)]) == 1
    assert re.search(naming("--config", "--regions"), capsys.readouterr().err)
    assert main(["compare", *both, *arguments, "--index", "99"]) == 1
    assert re.search(naming("--index", 99), capsys.readouterr().err)


def test_compare_writes_a_page(
    checkpoint: Path, image: Pixels, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(save(tmp_path / "a <b>.png", image))
    target = tmp_path / "pages" / "a.html"
    given = ["compare", str(checkpoint), "uniform", "--image", file, "--output", str(target)]
    assert main(given) == 0
    page = target.read_text(encoding="utf-8")
    assert "<h1>a &lt;b&gt;.png: learned, uniform</h1>" in page
    assert page.count('"samples": "16 x 24"') == 2
    untrained = ["compare", "detail", "uniform", "--pixels", "60", "--image", file]
    assert main([*untrained, "--output", str(tmp_path / "b.png")]) == 0
    assert capsys.readouterr().out.splitlines()[-2].startswith("uniform: PSNR")
    beside = ["compare", "detail", "uniform", *annotated(tmp_path / "data"), "--output"]
    assert main([*beside, str(target)]) == 0
    assert "ground truth</option>" in target.read_text(encoding="utf-8")
    assert main([*given[:-1], str(tmp_path / "c.svg")]) == 1
    assert re.search(naming("--output", ".html", ".png", "c.svg"), capsys.readouterr().err)


def test_unknown_commands_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["segmnt"])
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(naming("COMMAND", "'segmnt'"), line)


def test_the_installed_command_answers() -> None:
    command = [sys.executable, "-m", "deformsample", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for name in ("downsample", "segment", "compare", "fit"):
        assert name in done.stdout
