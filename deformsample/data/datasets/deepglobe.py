"""DeepGlobe land cover (Demir et al. 2018)."""

from __future__ import annotations

from pathlib import Path

from typing_extensions import override

from deformsample.conventions import Pixels
from deformsample.data.datasets.image_dataset import check_folder
from deformsample.data.datasets.segmentation_dataset import SegmentationDataset, SegmentationSample
from deformsample.errors import DataError
from deformsample.files.images import image_files, read_colours
from deformsample.files.label_maps import colours_from_ids, ids_from_colours, palette

_IMAGE, _LABELS = "_sat", "_mask"


class DeepGlobe(SegmentationDataset):
    """``train/*_sat.jpg`` and ``train/*_mask.png``: the 803 images whose labels are public.

    Six classes; the seventh, unknown (black), is ignored. The public tree names no split:
    ``deepglobe.yaml`` has 455, 207 and 141 images, as Chen et al. 2019 and Jin et al. 2022.

    Args:
        root: folder that holds ``train``.
    """

    classes = {  # noqa: RUF012 - never modified
        "urban": (0, 255, 255),
        "agriculture": (255, 255, 0),
        "rangeland": (255, 0, 255),
        "forest": (0, 255, 0),
        "water": (0, 0, 255),
        "barren": (255, 255, 255),
    }

    def __init__(self, root: str | None) -> None:
        self.root = Path(root or "data/deepglobe").expanduser()

    @override
    def samples(self) -> list[SegmentationSample]:
        files = image_files(check_folder(self.root / "train", "DeepGlobe images and masks"))
        images = {f.stem.removesuffix(_IMAGE): f for f in files if f.stem.endswith(_IMAGE)}
        masks = {f.stem.removesuffix(_LABELS): f for f in files if f.stem.endswith(_LABELS)}
        for name, file in images.items():
            if name not in masks:
                raise DataError(
                    f"Expected a mask {name}{_LABELS}.png for {file}, but there is none."
                )
        return [SegmentationSample(name, file, masks[name]) for name, file in images.items()]

    @override
    def read_labels(self, sample: SegmentationSample) -> Pixels:
        return ids_from_colours(
            read_colours(sample.labels),
            palette(self.classes),
            threshold=127,  # recommended by the data set: mask colours are not exact
            ignore=None,
            source=sample.labels,
        )

    @override
    def encode(self, ids: Pixels) -> Pixels:
        return colours_from_ids(ids, palette(self.classes))

    @override
    def prediction_name(self, sample: SegmentationSample) -> str:
        return f"{sample.name}{_LABELS}.png"
