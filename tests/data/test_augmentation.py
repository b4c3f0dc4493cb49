"""Padded pixels of augmented labels have no class."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import albumentations as A
import numpy as np
import pytest
import yaml

from deformsample.cli.train import main
from deformsample.conventions import IGNORE_INDEX
from deformsample.data import ClassificationDataModule, SegmentationDataModule
from deformsample.data.from_config import build_any_data
from tests.helpers import save

TRANSFORMS = {
    name: value
    for name, value in vars(A).items()
    if inspect.isclass(value) and issubclass(value, A.BasicTransform)
}
PADDING = [
    name for name, value in TRANSFORMS.items() if "fill_mask" in inspect.signature(value).parameters
]
NEEDED = {
    "CenterCrop3D": {"size": [2, 2, 2]},
    "Crop": {},
    "CropAndPad": {"px": 2},
    "CenterCrop": {"height": 2, "width": 2},
    "Pad3D": {"padding": 1},
    "RandomCrop": {"height": 2, "width": 2},
    "RandomCrop3D": {"size": [2, 2, 2]},
    "PadIfNeeded3D": {"min_zyx": [1, 1, 1]},
}
"""Arguments without a default."""

CASES: dict[str, list[dict[str, Any] | str]] = {
    "Rotate": [{"Rotate": {"limit": [30, 30], "p": 1.0}}],
    "by name": ["SafeRotate", {"Rotate": {"limit": [20, 20], "p": 1.0}}],
    "Affine": [{"Affine": {"translate_px": [9, 9], "p": 1.0}}],
    "ShiftScaleRotate": [{"ShiftScaleRotate": {"scale_limit": [-0.5, -0.5], "p": 1.0}}],
    "Perspective": [{"Perspective": {"scale": [0.2, 0.2], "fit_output": True, "p": 1.0}}],
    "PadIfNeeded": [{"PadIfNeeded": {"min_height": 80, "min_width": 120, "border_mode": 0}}],
    "RandomScale, crop": [
        {"RandomScale": {"scale_limit": [-0.5, -0.5], "p": 1.0}},
        {"RandomCrop": {"height": 64, "width": 96, "pad_if_needed": True}},
    ],
    "OneOf": [{"OneOf": {"transforms": [{"Rotate": {"limit": [30, 30]}}], "p": 1.0}}],
    "nested": [
        {
            "SomeOf": {
                "n": 1,
                "p": 1.0,
                "transforms": [
                    {"Compose": {"transforms": [{"Rotate": {"limit": [30, 30], "p": 1.0}}]}}
                ],
            }
        }
    ],
}


def config(transform: dict[str, Any] | str) -> dict[str, Any] | str:
    if isinstance(transform, str):
        return f"albumentations.{transform}"
    ((name, arguments),) = transform.items()
    inner = [config(child) for child in arguments.get("transforms", [])]
    given = {**arguments, **({"transforms": inner} if inner else {})}
    return {"class_path": f"albumentations.{name}", "init_args": given}


def section(root: Path, transforms: list[dict[str, Any] | str]) -> dict[str, Any]:
    """Images of ones, all of class 1."""
    for n in range(2):
        save(root / "images" / f"{n}.png", np.full((64, 96, 3), 200, np.uint8))
        save(root / "labels" / f"{n}.png", np.ones((64, 96), np.uint8))
    dataset = {
        "class_path": "deformsample.data.Folder",
        "init_args": {"classes": {"a": [0, 0, 0], "b": [9, 9, 9]}},
    }
    splitter = {
        "class_path": "deformsample.data.RandomSplit",
        "init_args": {"shares": [0.5, 0.5, 0]},
    }
    augmentation = [config(transform) for transform in transforms]
    return {
        "root": str(root),
        "num_workers": 0,
        "dataset": dataset,
        "splitter": splitter,
        "augmentation": augmentation,
    }


def augmented(data: dict[str, Any]) -> tuple[Any, Any]:
    module = build_any_data(SegmentationDataModule, {"data": data}, None, "a test")
    module.setup("fit")
    item = module.parts["train"][0]
    return item["image"].numpy(), item["labels"].numpy()


@pytest.mark.parametrize("transforms", CASES.values(), ids=CASES)
@pytest.mark.filterwarnings("ignore:ShiftScaleRotate is a special case")
def test_padding_has_no_class(transforms: list[dict[str, Any] | str], tmp_path: Path) -> None:
    image, labels = augmented(section(tmp_path, transforms))
    assert set(np.unique(labels)) == {1, IGNORE_INDEX}
    assert (labels[image[0] == 200] == 1).all()
    assert (image[0][labels == IGNORE_INDEX] < 200).all()


@pytest.mark.parametrize("fill", [0, 7])
def test_a_given_fill_is_kept(fill: int, tmp_path: Path) -> None:
    transforms: list[Any] = [{"Rotate": {"limit": [30, 30], "fill_mask": fill, "p": 1.0}}]
    labels = augmented(section(tmp_path, transforms))[1]
    assert set(np.unique(labels)) == {fill, 1}


@pytest.mark.parametrize("name", PADDING)
@pytest.mark.filterwarnings("ignore:ShiftScaleRotate is a special case")
def test_every_transform_that_fills_labels(name: str, tmp_path: Path) -> None:
    given: Any = {name: NEEDED.get(name, {})}
    module = build_any_data(
        SegmentationDataModule, {"data": section(tmp_path, [given])}, None, "a test"
    )
    (built,) = module.augmentation
    keeps_labels = ("Dropout" in name and name != "MaskDropout") or name in ("Erasing", "XYMasking")
    assert built.fill_mask == (None if keeps_labels else IGNORE_INDEX)


def test_transforms_of_python_are_unchanged() -> None:
    assert A.Rotate().fill_mask == 0


def test_the_config_of_a_run_has_the_fill(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "rotated.yaml"
    file.write_text(yaml.safe_dump({"data": section(tmp_path, ["Rotate"])}))
    with pytest.raises(SystemExit, match="0"):
        main(["--config", str(file), "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["data"]["augmentation"][0]["init_args"]["fill_mask"] == IGNORE_INDEX


def test_images_without_labels_are_padded_too(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for n in range(3):
            save(tmp_path / name / f"{n}.png", np.full((64, 96, 3), 200, np.uint8))
    data = {
        "dataset": {"class_path": "deformsample.data.ImageFolder"},
        "augmentation": [config({"Rotate": {"limit": [30, 30], "p": 1.0}})],
    }
    module = build_any_data(ClassificationDataModule, {"data": data}, str(tmp_path), "a test")
    module.setup("fit")
    assert set(np.unique(module.parts["train"][0]["image"])) >= {0, 200}
