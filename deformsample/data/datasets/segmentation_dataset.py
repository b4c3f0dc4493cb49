"""Images with a class for every pixel."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deformsample.conventions import Colour, Pixels
from deformsample.data.datasets.image_dataset import ImageDataset, ImageSample
from deformsample.files.images import read_image


@dataclass(frozen=True)
class SegmentationSample(ImageSample):
    """One image of a data set and its labels. Its name is the file name of the prediction."""

    labels: Path


class SegmentationDataset(ImageDataset[SegmentationSample]):
    """A file layout. To add a data set, write a subclass and a config."""

    classes: Mapping[str, Colour]
    """Name and colour of every class, in the order of the ids."""

    @property
    def settings(self) -> str:
        """The class and its plain attributes, which are part of cache keys."""
        plain = (str, int, float, Path, Mapping, Sequence, type(None))
        values = {name: value for name, value in vars(self).items() if isinstance(value, plain)}
        return f"{type(self).__name__} {values}"

    def read_image(self, sample: SegmentationSample) -> Pixels:
        """The image, (h, w, 3) uint8."""
        return read_image(sample.image)

    @abstractmethod
    def read_labels(self, sample: SegmentationSample) -> Pixels:
        """The class ids, (h, w) uint8, ``IGNORE_INDEX`` where there is no class."""

    def encode(self, ids: Pixels) -> Pixels:
        """Class ids (h, w) in the format of the label files of the data set."""
        return ids

    def prediction_name(self, sample: SegmentationSample) -> str:
        """File name of a predicted label map."""
        return f"{sample.name}.png"
