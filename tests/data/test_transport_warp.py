"""Random warps move an image and its labels alike."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deformsample.data import SegmentationDataModule, TransportWarp
from deformsample.data.augmentation import Compose
from deformsample.data.from_config import build_any_data
from deformsample.errors import ArgumentError
from tests.helpers import naming, scene


def test_image_and_labels_move_alike() -> None:
    labels = (np.add.outer(np.arange(80) // 20, np.arange(120) // 20) % 2).astype(np.uint8)
    image = np.repeat(labels[..., None] * 200, 3, axis=2)
    transform = Compose([TransportWarp(p=1.0)])
    transform.set_random_seed(3)
    warped = transform(image=image, mask=labels)
    assert warped["image"].shape == image.shape
    assert set(np.unique(warped["mask"])) == {0, 1}
    assert (warped["mask"] != labels).mean() > 0.1
    agree = (warped["image"][..., 0] > 100) == warped["mask"]
    assert agree.mean() > 0.98
    for corner in ((0, 0), (0, -1), (-1, 0), (-1, -1)):
        assert warped["mask"][corner] == labels[corner]


def test_the_seed_determines_the_warp() -> None:
    image, labels = scene(3, 50, 70, classes=2)
    results = []
    for seed in (1, 1, 2):
        transform = Compose([TransportWarp(p=1.0)])
        transform.set_random_seed(seed)
        results.append(transform(image=image, mask=labels)["image"])
    assert np.array_equal(results[0], results[1])
    assert not np.array_equal(results[0], results[2])


def test_small_deviations_move_little() -> None:
    image, _ = scene(3, 50, 70, classes=2)
    warped = TransportWarp(deviation=1e-4, p=1.0)(image=image)["image"]
    assert np.abs(warped.astype(int) - image).max() <= 1
    assert np.array_equal(TransportWarp(p=0.0)(image=image)["image"], image)


@pytest.mark.parametrize(("name", "value"), [("deviation", 0), ("nodes", 1), ("minimum", 1.5)])
def test_invalid_arguments_are_named(name: str, value: float) -> None:
    with pytest.raises(ArgumentError, match=naming(f"`{name}`", value)):
        TransportWarp(**{name: value})  # type: ignore[arg-type]


def test_a_config_can_name_it(cwfid_tree: Path) -> None:
    content: dict[str, Any] = {
        "data": {
            "root": str(cwfid_tree),
            "dataset": {
                "class_path": "deformsample.data.Folder",
                "init_args": {"labels": "ids", "classes": {"a": [0, 0, 0], "b": [9, 9, 9]}},
            },
            "augmentation": [
                {"class_path": "deformsample.data.TransportWarp", "init_args": {"deviation": 0.3}}
            ],
        }
    }
    data = build_any_data(SegmentationDataModule, content, None, "a test")
    assert [type(one) for one in data.augmentation] == [TransportWarp]
