"""A folder of images and a folder of labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from typing_extensions import override

from deformsample.conventions import Colour, Pixels
from deformsample.data.datasets.image_dataset import check_folder
from deformsample.data.datasets.segmentation_dataset import SegmentationDataset, SegmentationSample
from deformsample.errors import ArgumentError, DataError
from deformsample.files.images import image_files, read_colours, read_ids
from deformsample.files.label_maps import check_ids, colours_from_ids, ids_from_colours, palette


class Folder(SegmentationDataset):
    """``images/`` and ``labels/``, paired by file name without extension.

    Args:
        root: folder with ``images`` and ``labels``.
        classes: name and colour of every class, in the order of the ids.
        labels: content of label files: ``ids`` (one channel, 255 is ignored) or ``colours``.
        colour_threshold: for colours: channels above it become 255, others 0.
        ignored_colours: for colours: colours without a class; ``None`` ignores all unknown colours.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> from PIL import Image
        >>> with TemporaryDirectory() as root:
        ...     for name, mode in (("images", "RGB"), ("labels", "L")):
        ...         Path(root, name).mkdir()
        ...         Image.new(mode, (96, 64)).save(Path(root, name, "a.png"))
        ...     data = Folder(root, {"background": (0, 0, 0), "object": (255, 255, 255)})
        ...     sample = data.samples()[0]
        ...     sample.name, data.read_labels(sample).shape
        ('a', (64, 96))
    """

    def __init__(
        self,
        root: str | None,
        classes: Mapping[str, Colour],
        labels: Literal["ids", "colours"] = "ids",
        colour_threshold: int | None = None,
        ignored_colours: list[Colour] | None = None,
    ) -> None:
        if len(classes) < 2:
            raise ArgumentError(
                f"Expected `classes` to name at least 2 classes, but got {list(classes)}."
            )
        if labels == "colours" and len(set(map(tuple, classes.values()))) < len(classes):
            raise ArgumentError(f"Expected different colours for all `classes`, but got {classes}.")
        self.root = Path(root or "data/folder").expanduser()
        self.classes = classes
        self.labels = labels
        self.colour_threshold = colour_threshold
        self.ignored_colours = ignored_colours

    @override
    def samples(self) -> list[SegmentationSample]:
        samples, faults = self.listing()
        if faults:
            more = f" ({len(faults) - 1} more: `deformsample check` lists them)"
            raise DataError(faults[0] + (more if len(faults) > 1 else ""))
        return samples

    @override
    def listing(self) -> tuple[list[SegmentationSample], list[str]]:
        faults: list[str] = []
        images = _by_stem(image_files(check_folder(self.root / "images", "images")), faults)
        labels = _by_stem(image_files(check_folder(self.root / "labels", "label files")), faults)
        for stem in sorted(images.keys() ^ labels.keys()):
            other = "labels" if stem in images else "images"
            faults.append(
                f"Expected a file of the same name in {self.root / other} for "
                f"{(images | labels)[stem]}, but there is none."
            )
        samples = [
            SegmentationSample(stem, file, labels[stem])
            for stem, file in images.items()
            if stem in labels
        ]
        return samples, faults

    @override
    def read_labels(self, sample: SegmentationSample) -> Pixels:
        if self.labels == "ids":
            return check_ids(read_ids(sample.labels), len(self.classes), sample.labels)
        return ids_from_colours(
            read_colours(sample.labels),
            palette(self.classes),
            threshold=self.colour_threshold,
            ignore=self.ignored_colours,
            source=sample.labels,
        )

    @override
    def encode(self, ids: Pixels) -> Pixels:
        return ids if self.labels == "ids" else colours_from_ids(ids, palette(self.classes))


def _by_stem(files: Iterable[Path], faults: list[str]) -> dict[str, Path]:
    """Files by name without extension; the first file of equal names.

    Args:
        files: the files.
        faults: receives a message for every further file of a name.
    """
    by_stem: dict[str, Path] = {}
    for file in files:
        if file.stem in by_stem:
            faults.append(
                f"Expected one file per name, but {by_stem[file.stem]} and {file} differ only in "
                "their extension: remove or rename one."
            )
        by_stem.setdefault(file.stem, file)
    return by_stem
