"""Files that mean harm: nothing in them is executed, and nothing is written where it should not."""

from __future__ import annotations

import json
import pickle
import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import deformsample
from deformsample.checkpoints.builder import build_part
from deformsample.cli.main import main
from deformsample.data.from_config import build_data, read_config
from deformsample.errors import ArgumentError, CheckpointError
from deformsample.evaluation.plan import read_plan, slug
from deformsample.losses import TileLoss
from deformsample.networks.backbone import timm_model
from deformsample.segmenters import Segmenter
from tests.helpers import SHORT, SMALL, naming, save, scene
from tests.robustness.bad_files import CONFIG, checkpoint

MODULE = """\
from pathlib import Path
from torch import nn

Path("imported").touch()


class Net(nn.Module):
    def __init__(self, **given):
        super().__init__()
        Path("built").touch()
        self.layer = nn.Conv2d(3, 2, 1)

    def forward(self, image):
        return self.layer(image)
"""

Content = dict[str, Any]


@pytest.fixture
def planted(in_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that can be imported, and leaves a file when it is."""
    (in_tmp / "planted_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(in_tmp))
    monkeypatch.delitem(sys.modules, "planted_module", raising=False)
    return in_tmp


class Planted:
    """Leaves a file where a pickle of it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("executed"),))


NET = "planted_module.Net"
NAMED: dict[str, Any] = {
    "a class": {"class_path": NET},
    "a class by its name": NET,
    "a class in a text": json.dumps({"class_path": NET}),
    "a class among other arguments": {
        "class_path": "torch.nn.Conv2d",
        "init_args": {"in_channels": 3, "out_channels": 2, "kernel_size": 1},
        "dict_kwargs": {"device": {"class_path": NET}},
    },
    "a class in a list": {
        "class_path": "torch.nn.Sequential",
        "dict_kwargs": {"args": [{"class_path": NET}]},
    },
    "a function": {"class_path": "os.system", "init_args": {"command": "touch executed"}},
    "a program": {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "executed"]}},
    "a function of torch": {"class_path": "torch.hub.load", "init_args": {"repo_or_dir": "a/b"}},
    "a class that is no network": {"class_path": "torch.nn.Parameter"},
    "a function of a network's package": {"class_path": "torch.nn.functional.relu"},
    "a class of the package that is no network": {"class_path": "deformsample.data.Folder"},
    "no text": {"class_path": 7},
    "one name": {"class_path": "Net"},
    "depth": {"class_path": "torch.nn.Identity", "init_args": {"a": None}},
}


def with_network(network: object) -> Content:
    content = checkpoint()
    content["deformsample"]["segmenter"]["init_args"]["network"] = network
    return content


def deep() -> object:
    value: object = 1
    for _ in range(400):
        value = [value]
    return {"class_path": "torch.nn.Identity", "init_args": {"a": value}}


@pytest.mark.parametrize("name", NAMED)
def test_a_checkpoint_names_networks_of_known_packages_only(name: str, planted: Path) -> None:
    network = deep() if name == "depth" else NAMED[name]
    torch.save(with_network(network), "hostile.ckpt")
    with pytest.raises(CheckpointError, match=naming("hostile.ckpt")):
        deformsample.load("hostile.ckpt", kind=deformsample.SegmentationModel)
    assert {file.name for file in planted.iterdir()} == {"hostile.ckpt", "planted_module.py"}


def test_a_package_that_is_trusted_is_built(planted: Path) -> None:
    content = with_network({"class_path": NET})
    own = {"weight": torch.zeros(2, 3, 1, 1), "bias": torch.zeros(2)}
    content["state_dict"] = {
        **{k: v for k, v in content["state_dict"].items() if ".network." not in k},
        **{f"segmenter.network.layer.{name}": value for name, value in own.items()},
    }
    torch.save(content, "own.ckpt")
    image = save(planted / "a.png", scene(0, 20, 30, classes=2)[0])
    command = ["segment", "own.ckpt", str(image), "--output", "out"]
    assert main(command) == 1
    assert not Path("built").exists()
    assert main([*command, "--trust", "planted_module"]) == 0
    model = deformsample.load(
        "own.ckpt", trust=["planted_module"], kind=deformsample.SegmentationModel
    )
    model.save_pretrained("shared")
    with pytest.raises(CheckpointError, match=naming("shared", NET, "trust")):
        deformsample.load("shared", kind=deformsample.SegmentationModel)
    deformsample.load("shared", trust=["planted_module"], kind=deformsample.SegmentationModel)
    with pytest.raises(CheckpointError, match=naming("own.ckpt", NET)):
        deformsample.load("own.ckpt", trust=["planted"], kind=deformsample.SegmentationModel)


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("timm.create_model", {"model_name": "resnet10t"}),  # could read a pickle
        ("timm.models.resnet10t", {}),
        ("segmentation_models_pytorch.create_model", {"arch": "unet"}),
    ],
)
def test_functions_that_build_networks_are_refused(
    function: str, arguments: dict[str, object]
) -> None:
    network = {"class_path": function, "init_args": arguments}
    architecture = with_network(network)["deformsample"]["segmenter"]
    with pytest.raises(CheckpointError, match=naming(function, "torch.nn.Module")):
        build_part(Segmenter, architecture, "a test")


def test_weights_that_a_checkpoint_names_are_not_fetched() -> None:
    content = with_network(
        {
            "class_path": "segmentation_models_pytorch.Unet",
            "init_args": {"encoder_name": "resnet18", "encoder_weights": "no such", "classes": 2},
        }
    )
    architecture = content["deformsample"]["segmenter"]
    assert isinstance(build_part(Segmenter, architecture, "a test"), nn.Module)


LOADERS: dict[str, Callable[[str], object]] = {
    "load": deformsample.load,
    "load of a classifier": partial(deformsample.load, kind=deformsample.ClassificationModel),
    "info": lambda file: main(["info", file, "--debug"]),
    "segment": lambda file: main(["segment", file, "a.png", "--output", "out", "--debug"]),
    "downsample": lambda file: main(["downsample", file, "a.png", "--output", "out", "--debug"]),
    "compare": lambda file: main(
        ["compare", file, "--image", "a.png", "--output", "a.html", "--debug"]
    ),
    "measure": lambda file: main(["measure", file, "--config", "quickstart.yaml", "--debug"]),
    "export": lambda file: main(
        ["export", file, "--output", "a.onnx", "--image-size", "64", "96", "--debug"]
    ),
    "tiles": lambda file: main(
        ["tiles", file, "--config", "quickstart.yaml", "--output", "out", "--debug"]
    ),
}


@pytest.mark.parametrize("name", LOADERS)
def test_no_loader_executes_a_pickle(name: str, in_tmp: Path) -> None:
    for file, options in {
        "new.ckpt": {},
        "old.ckpt": {"_use_new_zipfile_serialization": False},
    }.items():
        torch.save({"state_dict": Planted()}, file, **options)
        with pytest.raises(CheckpointError, match=naming(file)):
            LOADERS[name](file)
    Path("plain.ckpt").write_bytes(pickle.dumps({"state_dict": Planted()}))
    with pytest.raises(CheckpointError, match=naming("plain.ckpt")):
        LOADERS[name]("plain.ckpt")
    assert not Path("executed").exists()


def test_no_run_builds_what_a_checkpoint_says_of_its_hyperparameters(
    planted: Path, folder_tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hostile = {"loss": {"class_path": NET}, "segmenter": {"class_path": NET}}
    torch.save({**checkpoint(), "hyper_parameters": hostile}, "planted.ckpt")
    given = ["validate", "--config", "folder.yaml", f"--data.root={folder_tree}", *SMALL]
    assert main([*given, "--ckpt_path=planted.ckpt"]) == 1
    assert re.search(naming("planted.ckpt", "config.yaml"), capsys.readouterr().err)
    assert not Path("imported").exists()


@pytest.mark.parametrize("command", ["fit", "validate", "test", "predict"])
def test_no_run_executes_a_pickle(
    command: str, folder_tree: Path, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": Planted()}, "planted.ckpt")
    given = [command, "--config", "folder.yaml", f"--data.root={folder_tree}", *SMALL, *SHORT]
    assert main([*given, "--ckpt_path=planted.ckpt"]) == 1
    assert "planted.ckpt" in capsys.readouterr().err
    assert not Path("executed").exists()
    assert not Path("runs").exists()


def test_no_file_of_weights_is_executed(in_tmp: Path) -> None:
    torch.save({"a": Planted()}, "weights.pth")
    with pytest.raises(ArgumentError, match=naming("weights.pth")):
        timm_model("resnet18", "weights.pth")
    assert not Path("executed").exists()


def test_what_a_checkpoint_describes_may_be_of_any_type(in_tmp: Path) -> None:
    changes: tuple[dict[str, object], ...] = (
        {"segmenter": 7},
        {"segmenter": {}},
        {"segmenter": {"class_path": None}},
        {"segmenter": {"class_path": "deformsample.segmenters.SampledSegmenter", "init_args": 7}},
        {"classes": 7},
        {"classes": {"a": [1, 2]}},
        {"classes": {"a": ["1", "2", "3"], "b": [0, 0, 0]}},
        {"classes": {7: [0, 0, 0]}},
    )
    for change in changes:
        content = checkpoint()
        content["deformsample"].update(change)
        torch.save(content, "odd.ckpt")
        with pytest.raises(CheckpointError, match=r"odd\.ckpt"):
            deformsample.load("odd.ckpt", kind=deformsample.SegmentationModel)
    content = checkpoint()
    content["deformsample"]["card"] = 7
    torch.save(content, "odd.ckpt")
    assert main(["info", "odd.ckpt"]) == 1
    torch.save({**checkpoint(), "state_dict": {"segmenter.mean": "text"}}, "odd.ckpt")
    with pytest.raises(CheckpointError, match=naming("odd.ckpt")):
        deformsample.load("odd.ckpt", kind=deformsample.SegmentationModel)


CONFIGS: dict[str, str | bytes] = {
    "nothing": "",
    "a list": "- a\n- b\n",
    "a number": "7\n",
    "bytes": b"\xff\xfe\x00\x01",
    "zero bytes": b"data: \x00",
    "an object": "data: !!python/object/apply:os.system ['touch executed']\n",
    "a new object": "task: !!python/object/new:pathlib.Path ['executed']\n",
    "no YAML": "data: [1, 2\n",
    "two documents": "a: 1\n---\nb: 2\n",
    "a circle": "data: &a [*a]\n",
    "giants": "".join(
        f"a{n}: &a{n} [{f'*a{n - 1}, ' * 9}]\n" if n else "a0: &a0 x\n" for n in range(12)
    ),
    "depth": "data: " + "[" * 5000 + "]" * 5000,
    "a date": "data: 2026-99-99\n",
    "other keys": "7: 1\n",
}


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("command", ["check", "fit", "benchmark"])
def test_configs_that_cannot_be_read_are_one_line(
    name: str, command: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content = CONFIGS[name]
    Path("bad.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    assert main([command, "--config", "bad.yaml"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert "bad.yaml" in line
    assert [file.name for file in in_tmp.iterdir()] == ["bad.yaml"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("batch_size: 2", "batch_sise: 2"),
        ("batch_size: 2", "batch_size: many"),
        ("batch_size: 2", "batch_size: -1"),
        ("labels: ids", "labels: words"),
        ("[255, 0, 0]", "[255, 0]"),
        ("[0.5, 0.25, 0.25]", "[0.5]"),
        ("deformsample.data.Folder", "deformsample.data.Fodler"),
        ("deformsample.data.Folder", "os.system"),
        ("data:\n", "data: 7\nmore:\n"),
    ],
)
def test_configs_with_wrong_values_name_themselves(old: str, new: str, in_tmp: Path) -> None:
    assert old in CONFIG
    Path("a.yaml").write_text(CONFIG.replace(old, new))
    with pytest.raises(ArgumentError, match=r"a\.yaml"):
        build_data(read_config("a.yaml"), None, "a.yaml")


def test_outputs_stay_in_their_folder(
    in_tmp: Path, small_checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folder in ("a", "b"):
        save(in_tmp / folder / "x.png", scene(0, 20, 30, classes=2)[0])
    up = "out/../a/x.png"
    Path("out").mkdir()
    precious = Path("precious.txt")
    precious.write_text("precious")
    Path("out/x.png").symlink_to(precious.absolute())
    assert main(["segment", str(small_checkpoint), up, "--output", "out"]) == 0
    assert precious.read_text() == "precious"  # the link is replaced, not followed
    assert sorted(x.name for x in Path("out").iterdir()) == ["x.png"]
    assert main(["segment", str(small_checkpoint), "a/x.png", "b/x.png", "--output", "out"]) == 1
    assert re.search(naming("a/x.png", "b/x.png", "out/x.png"), capsys.readouterr().err)


def test_names_of_methods_stay_in_the_folder_and_apart(in_tmp: Path) -> None:
    assert slug("..") == "__"
    assert slug("../../a") == "___.._a"
    assert slug("v1.5-x") == "v1.5-x"
    plan = Path(__file__).parents[2] / "benchmarks" / "hrf.yaml"
    text = plan.read_text()
    assert "  uniform:" in text
    name = next(x for x in read_plan(plan).methods if " " in x)
    Path("p.yaml").write_text(text.replace("  uniform:", f"  {name.replace(' ', '_')}:", 1))
    with pytest.raises(ArgumentError, match=naming("p.yaml", name)):
        read_plan(Path("p.yaml"))


def test_a_page_escapes_names(in_tmp: Path) -> None:
    name = "<script>alert(1)</script>"
    file = save(in_tmp / "<img src=x onerror=alert(1)>\udcff.png", scene(0, 20, 30, classes=2)[0])
    content = checkpoint()
    content["deformsample"]["classes"] = {name: [0, 0, 0], "b": [1, 2, 3]}
    torch.save(content, "a.ckpt")
    given = ["compare", "a.ckpt", "detail", "--image", str(file), "--output", "a.html"]
    assert main(given) == 0
    page = Path("a.html").read_text(encoding="utf-8")
    assert name not in page
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page


def test_losses_of_nothing_but_ignored_pixels_are_finite() -> None:
    """See test_losses.py for the others; this one has its own path, without a sampling grid."""
    segmenter = build_part(
        Segmenter,
        {
            "class_path": "deformsample.segmenters.TiledSegmenter",
            "init_args": {
                "network": checkpoint()["deformsample"]["segmenter"]["init_args"]["network"],
                "tile": [16, 16],
            },
        },
        "a test",
    )
    image, labels = torch.rand(1, 3, 16, 16), torch.full((1, 16, 16), 255, dtype=torch.uint8)
    loss = TileLoss()(segmenter(image), labels, 0.0)["segmentation"]
    loss.backward()
    assert float(loss) == 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in segmenter.parameters())
