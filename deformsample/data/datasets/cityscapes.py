"""Cityscapes (Cordts et al. 2016), in its official tree."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
from typing_extensions import override

from deformsample.conventions import IGNORE_INDEX, Pixels
from deformsample.data.datasets.image_dataset import check_folder
from deformsample.data.datasets.segmentation_dataset import SegmentationDataset, SegmentationSample
from deformsample.data.splits import Split
from deformsample.errors import DataError
from deformsample.files.images import read_ids

# Official ids of the 19 classes of the benchmark, in the order of their training ids.
_LABEL_IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_LICENCE_PLATE = 255  # -1 in the official table
_HIGHEST_ID = 33
_IMAGE = "_leftImg8bit.png"
_LABELS = "_gtFine_labelIds.png"


class Cityscapes(SegmentationDataset):
    """``leftImg8bit/SPLIT/CITY/*_leftImg8bit.png`` and ``gtFine/SPLIT/CITY/*_gtFine_labelIds.png``.

    Labels are the 19 training ids; all other official ids are ignored. Predictions are written as
    official ids, for the official evaluator.

    Args:
        root: folder with ``leftImg8bit`` and ``gtFine``.
    """

    classes = {  # noqa: RUF012 - never modified
        "road": (128, 64, 128),
        "sidewalk": (244, 35, 232),
        "building": (70, 70, 70),
        "wall": (102, 102, 156),
        "fence": (190, 153, 153),
        "pole": (153, 153, 153),
        "traffic light": (250, 170, 30),
        "traffic sign": (220, 220, 0),
        "vegetation": (107, 142, 35),
        "terrain": (152, 251, 152),
        "sky": (70, 130, 180),
        "person": (220, 20, 60),
        "rider": (255, 0, 0),
        "car": (0, 0, 142),
        "truck": (0, 0, 70),
        "bus": (0, 60, 100),
        "train": (0, 80, 100),
        "motorcycle": (0, 0, 230),
        "bicycle": (119, 11, 32),
    }

    def __init__(self, root: str | None) -> None:
        self.root = Path(root or "data/cityscapes").expanduser()

    @override
    def samples(self) -> list[SegmentationSample]:
        images = check_folder(self.root / "leftImg8bit", "Cityscapes images")
        labels = check_folder(self.root / "gtFine", "Cityscapes labels")
        samples = []
        for split in get_args(Split):
            if not (labels / split).is_dir():
                continue  # an incomplete copy; fit needs no test labels
            for image in sorted((images / split).glob(f"*/*{_IMAGE}")):
                name = image.name.removesuffix(_IMAGE)
                partner = labels / split / image.parent.name / f"{name}{_LABELS}"
                if not partner.is_file():
                    raise DataError(
                        f"Expected labels for {image} at {partner}, but there is no such file."
                    )
                samples.append(SegmentationSample(name, image, partner, split=split))
        return samples

    @override
    def read_labels(self, sample: SegmentationSample) -> Pixels:
        ids = read_ids(sample.labels)
        if bool(((ids > _HIGHEST_ID) & (ids != _LICENCE_PLATE)).any()):
            raise DataError(
                f"Expected official Cityscapes ids up to {_HIGHEST_ID}, but {sample.labels} has "
                f"{int(ids[ids != _LICENCE_PLATE].max())}: are these training ids or colours?"
            )
        return _training_ids()[ids]

    @override
    def encode(self, ids: Pixels) -> Pixels:
        return np.array(_LABEL_IDS, dtype=np.uint8)[ids]

    @override
    def prediction_name(self, sample: SegmentationSample) -> str:
        return f"{sample.name}_pred_labelIds.png"


def _training_ids() -> Pixels:
    lookup = np.full(256, IGNORE_INDEX, dtype=np.uint8)
    lookup[list(_LABEL_IDS)] = np.arange(len(_LABEL_IDS))
    return lookup
