"""Typical mistakes on the command line are one line in plain words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from deformsample.cli import main as commands
from deformsample.cli import train
from tests.helpers import naming, save, scene

QUICKSTART = "--config=quickstart.yaml"
UNET = [
    "--model.segmenter.downsampler.sampler.network.widths=[4,8]",
    "--model.segmenter.network.class_path=deformsample.networks.UNet",
    "--model.segmenter.network.widths=[4,8]",
    "--model.segmenter.network.logit_upsampling=2",
    "--trainer.accelerator=cpu",
]
"""Options of the networks of the small checkpoint."""

PARSERS = r"Parser key|Problem with|Namespace|<class|Callable|Union|Literal"


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: ")
    return lines[-1]


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("data: {dataset: {class_path: deformsample.data.Foldr}}", ["deformsample.data.Foldr"]),
        (
            "model: {segmenter: {init_args: {network: {class_path: deformsample.networks.Nett}}}}",
            ["model.segmenter.network", "deformsample.networks.Nett"],
        ),
        (
            "model: {segmenter: {init_args: {network: {init_args: {logit_upsampling: x}}}}}",
            ["model.segmenter.network.logit_upsampling", "x"],
        ),
        ("dta: {root: x}", ["dta.root"]),
        ("model: {loss: {init_args: {class_weigths: balanced}}}", ["class_weigths"]),
        (
            "data: {augmentation: [albumentations.Rotat]}",
            ["data.augmentation", "albumentations.Rotat"],
        ),
        ("data: {batch_size: many}", ["data.batch_size", "int", "many"]),
        (
            "data: {dataset: {class_path: deformsample.data.ImageFolder}}",
            ["data.dataset", "deformsample.data.ImageFolder", "SegmentationDataset"],
        ),
    ],
)
def test_mistakes_in_configs(
    config: str, named: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(config)
    assert train.main([QUICKSTART, f"--config={file}"]) == 2
    text = error_of(capsys)
    assert re.search(naming(*named), text)
    assert not re.search(PARSERS, text)


def test_a_run_without_a_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main([]) == 2
    assert re.search(naming("--config quickstart.yaml"), error_of(capsys))


def test_a_measurement_without_a_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["validate", QUICKSTART]) == 1
    assert re.search(naming("--ckpt_path FILE", "validate"), error_of(capsys))


def test_options_that_the_trainer_refuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [QUICKSTART, "--trainer.accelerator=cpu", f"--output={tmp_path / 'run'}"]
    assert train.main([*given, "--trainer.devices=x"]) == 1
    assert re.search(naming("trainer", "devices"), error_of(capsys))


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (["downsample", "detal", "a.png", "--output=out"], ["detal", "detail", "uniform"]),
        (["downsample", "detail", "a.png", "--output=out", "--device=gpu"], ["gpu"]),
        (["downsample", "detail", "a.png", "--output=a.png"], ["--output", "a.png"]),
        (["check", "--config=folder.yaml", "--root=no"], ["no/images", "--root PATH"]),
    ],
)
def test_mistakes_of_commands(
    given: list[str], named: list[str], in_tmp: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save(in_tmp / "a.png", scene(0, 20, 30, classes=2)[0])
    assert commands.main(given) == 1
    lines = capsys.readouterr()
    assert re.search(naming(*named), lines.err + lines.out)


@pytest.mark.parametrize("command", ["measure", "compare", "validate"])
def test_a_checkpoint_of_other_classes(
    command: str,
    small_checkpoint: Path,
    folder_tree: Path,
    in_tmp: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    content = torch.load(small_checkpoint, weights_only=True)
    names = content["deformsample"]["classes"]
    content["deformsample"]["classes"] = dict(reversed(names.items()))
    torch.save(content, "other.ckpt")
    given = {
        "measure": ["other.ckpt", f"--root={folder_tree}"],
        "compare": ["other.ckpt", f"--root={folder_tree}", "--output=page.html"],
        "validate": ["--ckpt_path=other.ckpt", f"--data.root={folder_tree}", *UNET],
    }
    assert commands.main([command, "--config=folder.yaml", *given[command]]) == 1
    assert re.search(
        naming("other.ckpt", "object, background", "background, object"), error_of(capsys)
    )
