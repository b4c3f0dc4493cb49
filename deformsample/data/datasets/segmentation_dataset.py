"""What a data set is: where its files are, and how their contents become images and class ids."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deformsample.conventions import Colour, Pixels
from deformsample.data.splits import Split
from deformsample.errors import DataError
from deformsample.files.images import read_image


@dataclass(frozen=True)
class SegmentationSample:
    """One image of a data set and its labels."""

    name: str
    """Unique in its data set; names the prediction's file."""

    image: Path
    labels: Path | None
    """``None`` where the data set has no labels for this image."""


class SegmentationDataset(ABC):
    """A layout of files. To add a data set, write a subclass of this and one config."""

    classes: Mapping[str, Colour]
    """Name and colour of every class, in the order of the ids."""

    @property
    def settings(self) -> str:
        """The class and its plain attributes, on which decoding depends beside the file."""
        plain = (str, int, float, Path, Mapping, Sequence, type(None))
        own = {name: value for name, value in vars(self).items() if isinstance(value, plain)}
        return f"{type(self).__name__} {own}"

    @abstractmethod
    def samples(self, split: Split) -> list[SegmentationSample]:
        """List the images of a split, without reading them.

        Raises:
            DataError: a folder is missing, or files that belong together are not there.
        """

    def listing(self, split: Split) -> tuple[list[SegmentationSample], list[str]]:
        """The images of a split that can be listed, and what is wrong with the files of others."""
        try:
            return self.samples(split), []
        except DataError as error:
            return [], [str(error)]

    def read_image(self, sample: SegmentationSample) -> Pixels:
        """The image, (h, w, 3) uint8."""
        return read_image(sample.image)

    @abstractmethod
    def read_labels(self, sample: SegmentationSample) -> Pixels:
        """The class ids, (h, w) uint8, ``IGNORE_INDEX`` where there is no class."""

    def encode(self, ids: Pixels) -> Pixels:
        """Class ids (h, w) as the data set's own label files hold them."""
        return ids

    def prediction_name(self, sample: SegmentationSample) -> str:
        """File name of a predicted label map."""
        return f"{sample.name}.png"


def check_folder(folder: Path, what: str) -> Path:
    """Pass a folder on if it exists.

    Raises:
        DataError: naming the folder and the key to set.
    """
    if not folder.is_dir():
        raise DataError(
            f"Expected {what} in the folder {folder}, but there is no such folder: set it with "
            "`--data.root PATH`."
        )
    return folder


def by_stem(files: Iterable[Path], faults: list[str]) -> dict[str, Path]:
    """Files by their name without its extension; of several of one name, the first.

    Args:
        files: to put in order.
        faults: gets a line for every other one.
    """
    found: dict[str, Path] = {}
    for file in files:
        if file.stem in found:
            faults.append(
                f"Expected one file for each name, but {found[file.stem]} and {file} differ in "
                "their extension only: remove or rename one."
            )
        found.setdefault(file.stem, file)
    return found
