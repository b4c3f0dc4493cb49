"""DeepGlobe land cover (Demir et al. 2018)."""

from __future__ import annotations

from pathlib import Path

from deformsample.conventions import Pixels
from deformsample.data.datasets.segmentation_dataset import (
    SegmentationDataset,
    SegmentationSample,
    check_folder,
)
from deformsample.data.splits import Split, seeded_split
from deformsample.errors import DataError
from deformsample.files.images import image_files, read_colours
from deformsample.files.label_maps import colours_from_ids, ids_from_colours, palette

_IMAGE, _LABELS = "_sat", "_mask"
_SHARES = (455 / 803, 207 / 803, 141 / 803)  # of Chen et al. 2019 and Jin et al. 2022


class DeepGlobe(SegmentationDataset):
    """``train/*_sat.jpg`` and ``train/*_mask.png``: the 803 images whose labels are public.

    Six classes; the seventh, unknown (black), is ignored. The images are divided into 455, 207 and
    141 by seed, since the public tree names no split.

    Args:
        root: folder that holds ``train``.
        seed: of the division.
    """

    classes = {  # noqa: RUF012 - a mapping that nobody changes
        "urban": (0, 255, 255),
        "agriculture": (255, 255, 0),
        "rangeland": (255, 0, 255),
        "forest": (0, 255, 0),
        "water": (0, 0, 255),
        "barren": (255, 255, 255),
    }

    def __init__(self, root: str | None, seed: int = 0) -> None:
        self.root = Path(root or "data/deepglobe").expanduser()
        self.seed = seed

    def samples(self, split: Split) -> list[SegmentationSample]:
        """See :class:`SegmentationDataset`."""
        files = image_files(check_folder(self.root / "train", "DeepGlobe images and masks"))
        images = {f.stem.removesuffix(_IMAGE): f for f in files if f.stem.endswith(_IMAGE)}
        masks = {f.stem.removesuffix(_LABELS): f for f in files if f.stem.endswith(_LABELS)}
        for name, file in images.items():
            if name not in masks:
                raise DataError(
                    f"Expected a mask {name}{_LABELS}.png for {file}, but there is none."
                )
        division = seeded_split(list(images), shares=_SHARES, group_pattern=None, seed=self.seed)
        return [
            SegmentationSample(name, file, masks[name])
            for name, file in images.items()
            if division[name] == split
        ]

    def read_labels(self, sample: SegmentationSample) -> Pixels:
        """See :class:`SegmentationDataset`."""
        assert sample.labels is not None
        return ids_from_colours(
            read_colours(sample.labels),
            palette(self.classes),
            threshold=127,  # the data set's own advice: masks are not pure everywhere
            ignore=None,
            source=sample.labels,
        )

    def encode(self, ids: Pixels) -> Pixels:
        """See :class:`SegmentationDataset`."""
        return colours_from_ids(ids, palette(self.classes))

    def prediction_name(self, sample: SegmentationSample) -> str:
        """See :class:`SegmentationDataset`."""
        return f"{sample.name}{_LABELS}.png"
