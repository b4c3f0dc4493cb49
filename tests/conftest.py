import os

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")  # the suite means the same on every machine
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no waiting for downloads
os.environ.setdefault("MPLBACKEND", "Agg")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Tests run side by side: so do the processes that they start, and threads would only wait.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import settings

from deformsample.checkpoints.archive import FORMAT
from deformsample.checkpoints.builder import build_part
from deformsample.cli.main import main
from deformsample.cli.train import main as train
from deformsample.conventions import Pixels
from deformsample.segmenters import Segmenter
from tests.helpers import SHORT, SMALL, save, scene

torch.set_num_threads(1 if "PYTEST_XDIST_WORKER" in os.environ else 2)

settings.register_profile("quick", max_examples=25, deadline=None, derandomize=True)
settings.register_profile("thorough", max_examples=10_000, deadline=None)
settings.load_profile("quick")


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def folder_tree(tmp_path: Path) -> Path:
    """A ``Folder`` of six images with two classes, of mixed extensions and letter case."""
    root = tmp_path / "folder"
    for n in range(6):
        image, ids = scene(n, 64, 96, classes=2)
        save(root / "images" / f"p{n // 2}_{n}.{('JPG', 'png', 'jpeg')[n % 3]}", image)
        save(root / "labels" / f"p{n // 2}_{n}.PNG", ids)
    return root


@pytest.fixture
def hrf_tree(tmp_path: Path) -> Path:
    root = tmp_path / "hrf"
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255], [0, 255, 0]], dtype=np.uint8)
    for n, stem in enumerate(["01_h", "02_dr", "11_g", "12_h", "13_h"]):
        image, ids = scene(n, 64, 96, classes=4)
        save(root / "images" / f"{stem}.{'jpg' if n % 2 else 'JPG'}", image)
        save(root / "labels" / f"{stem}.png", colours[ids])
    return root


def write_split_tree(root: Path, classes: int) -> Path:
    """Class ids beside the images, and ``split.csv``, as CamVid and CWFID have them."""
    lines = []
    for n in range(5):
        image, ids = scene(n, 64, 96, classes)
        ids[:4] = 255
        save(root / "images" / f"{n:03}.jpg", image)
        save(root / "labels" / f"{n:03}.png", ids)
        lines.append(f"{n:03},{'train' if n < 3 else 'val'}")
    (root / "split.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def camvid_tree(tmp_path: Path) -> Path:
    return write_split_tree(tmp_path / "camvid", 11)


@pytest.fixture
def cwfid_tree(tmp_path: Path) -> Path:
    return write_split_tree(tmp_path / "cwfid", 3)


@pytest.fixture
def histology_tree(tmp_path: Path) -> Path:
    """Images of different widths."""
    root = tmp_path / "histology"
    for n in range(8):
        image, ids = scene(n, 48, 80 + 24 * n, classes=6)
        save(root / "images" / f"a{n}_1.png", image)
        save(root / "labels" / f"a{n}_1.png", ids)
    return root


@pytest.fixture
def deepglobe_tree(tmp_path: Path) -> Path:
    root = tmp_path / "deepglobe"
    colours = [
        [0, 255, 255],
        [255, 255, 0],
        [255, 0, 255],
        [0, 255, 0],
        [0, 0, 255],
        [255] * 3,
        [0] * 3,
    ]
    table = np.array(colours, dtype=np.uint8)
    for n in range(7):
        image, ids = scene(n, 64, 64, classes=7)
        save(root / "train" / f"{100 + n}_sat.jpg", image)
        save(root / "train" / f"{100 + n}_mask.png", table[ids])
    return root


@pytest.fixture
def cityscapes_tree(tmp_path: Path) -> Path:
    return write_cityscapes(tmp_path / "cityscapes")


def write_cityscapes(root: Path) -> Path:
    label_ids = np.array([0, 7, 8, 11, 21, 23, 24, 26, 33, 6], dtype=np.uint8)
    for split, count in (("train", 4), ("val", 3), ("test", 1)):
        for n in range(count):
            image, ids = scene(10 * count + n, 64, 128, classes=len(label_ids))
            name = f"ulm_{n:06}_000019"
            save(root / "leftImg8bit" / split / "ulm" / f"{name}_leftImg8bit.png", image)
            save(root / "gtFine" / split / "ulm" / f"{name}_gtFine_labelIds.png", label_ids[ids])
    return root


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    for n in range(6):
        image, ids = scene(n, 64, 96, classes=2)
        save(root / "images" / f"{n}.png", image)
        save(root / "labels" / f"{n}.png", ids)
    output = tmp_path_factory.mktemp("run")
    arguments = ["--config", "folder.yaml", f"--data.root={root}", f"--output={output}"]
    assert train([*arguments, *SMALL, *SHORT]) == 0
    return output / "checkpoints" / "last.ckpt"


@pytest.fixture(scope="session")
def small_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of small networks without training."""
    network = {"class_path": "deformsample.networks.UNet", "init_args": {"widths": [4, 8]}}
    scores = {**network, "init_args": {"num_classes": 1, "widths": [4, 8]}}
    logits = {**network, "init_args": {"num_classes": 2, "widths": [4, 8], "logit_upsampling": 2}}
    sampler = {
        "class_path": "deformsample.samplers.LearnedSampler",
        "init_args": {"network": scores},
    }
    downsampler = {
        "class_path": "deformsample.samplers.Downsampler",
        "init_args": {"sampler": sampler, "sampled_size": [16, 24]},
    }
    architecture = {
        "class_path": "deformsample.segmenters.SampledSegmenter",
        "init_args": {"downsampler": downsampler, "network": logits},
    }
    torch.manual_seed(0)
    segmenter = build_part(Segmenter, architecture, "a test")
    weights = {f"segmenter.{name}": value for name, value in segmenter.state_dict().items()}
    weights["segmenter.downsampler.sampler.network.head.weight"] *= 400  # so that the samples move
    classes = {"background": [0, 0, 0], "object": [255, 9, 0]}
    held = {"format": FORMAT, "segmenter": architecture, "classes": classes}
    checkpoint = tmp_path_factory.mktemp("checkpoint") / "last.ckpt"
    torch.save({"state_dict": weights, "deformsample": held}, checkpoint)
    return checkpoint


@pytest.fixture(scope="session")
def exported(small_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """That checkpoint, and its ONNX file for ``image``."""
    file = tmp_path_factory.mktemp("exported") / "model.onnx"
    size = ["--image-size", "70", "110"]
    assert main(["export", str(small_checkpoint), "--output", str(file), *size]) == 0
    return small_checkpoint, file


@pytest.fixture
def image() -> Pixels:
    return scene(5, 70, 110, classes=2)[0]
