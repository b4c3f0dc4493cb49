"""Your own images: a folder of images and a folder of labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from deformsample.conventions import Colour, Pixels
from deformsample.data.datasets.segmentation_dataset import (
    SegmentationDataset,
    SegmentationSample,
    by_stem,
    check_folder,
)
from deformsample.data.splits import Split, seeded_split, split_from_file
from deformsample.errors import ArgumentError, DataError
from deformsample.files.configs import own_or_shipped
from deformsample.files.images import image_files, read_colours, read_ids
from deformsample.files.label_maps import check_ids, colours_from_ids, ids_from_colours, palette


class Folder(SegmentationDataset):
    """``images/`` and ``labels/``, paired by file name without extension.

    Args:
        root: folder that holds ``images`` and ``labels``.
        classes: name and colour of every class, in the order of the ids.
        labels: what label files hold: ``ids`` (one channel, 255 is ignored) or ``colours``.
        colour_threshold: with colours: a channel above it counts as 255, others as 0.
        ignored_colours: with colours: those without a class. ``None`` ignores all unknown ones.
        split_file: CSV of stem or glob, and split, as ``hrf_split.csv``, where the first row that
            fits counts; relative to the root, or else to the folder of the shipped configs.
        shares: without a split file: shares of train, val and test.
        group_pattern: without a split file: regular expression for what must stay together, such
            as the patient in a file name.
        seed: of the division.
    """

    def __init__(
        self,
        root: str | None,
        classes: Mapping[str, Colour],
        labels: Literal["ids", "colours"] = "ids",
        colour_threshold: int | None = None,
        ignored_colours: list[Colour] | None = None,
        split_file: str | None = None,
        shares: tuple[float, float, float] = (0.7, 0.15, 0.15),
        group_pattern: str | None = None,
        seed: int = 0,
    ) -> None:
        if len(classes) < 2:
            raise ArgumentError(
                f"Expected `classes` to name at least 2 classes, but got {list(classes)}."
            )
        if labels == "colours" and len(set(map(tuple, classes.values()))) < len(classes):
            raise ArgumentError("Expected a colour of its own for each of `classes`.")
        self.root = Path(root or "data/folder").expanduser()
        self.classes = classes
        self.labels = labels
        self.colour_threshold = colour_threshold
        self.ignored_colours = ignored_colours
        self.split_file = split_file
        self.shares = shares
        self.group_pattern = group_pattern
        self.seed = seed

    def samples(self, split: Split) -> list[SegmentationSample]:
        """See :class:`SegmentationDataset`."""
        found, faults = self.listing(split)
        if faults:
            more = f" ({len(faults) - 1} more: `deformsample check` lists them)"
            raise DataError(faults[0] + (more if len(faults) > 1 else ""))
        return found

    def listing(self, split: Split) -> tuple[list[SegmentationSample], list[str]]:
        """See :class:`SegmentationDataset`."""
        faults: list[str] = []
        images = by_stem(image_files(check_folder(self.root / "images", "images")), faults)
        labels = by_stem(image_files(check_folder(self.root / "labels", "label files")), faults)
        for stem in sorted(images.keys() ^ labels.keys()):
            other = "labels" if stem in images else "images"
            faults.append(
                f"Expected a file of the same name in {self.root / other} for "
                f"{(images | labels)[stem]}, but there is none."
            )
        pairs = {stem: file for stem, file in images.items() if stem in labels}
        division = self._division(list(pairs))
        samples = [
            SegmentationSample(stem, file, labels[stem])
            for stem, file in pairs.items()
            if division.get(stem) == split
        ]
        return samples, faults

    def read_labels(self, sample: SegmentationSample) -> Pixels:
        """See :class:`SegmentationDataset`."""
        assert sample.labels is not None
        if self.labels == "ids":
            return check_ids(read_ids(sample.labels), len(self.classes), sample.labels)
        return ids_from_colours(
            read_colours(sample.labels),
            palette(self.classes),
            threshold=self.colour_threshold,
            ignore=self.ignored_colours,
            source=sample.labels,
        )

    def encode(self, ids: Pixels) -> Pixels:
        """See :class:`SegmentationDataset`."""
        return ids if self.labels == "ids" else colours_from_ids(ids, palette(self.classes))

    def _division(self, stems: list[str]) -> dict[str, str]:
        if self.split_file is not None:
            return split_from_file(stems, own_or_shipped(self.root, self.split_file))
        return seeded_split(
            stems, shares=self.shares, group_pattern=self.group_pattern, seed=self.seed
        )
