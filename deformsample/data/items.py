"""Items of a split, read and augmented, and batches of them."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypedDict

import torch
from torch import Tensor
from torch.utils.data import Dataset
from typing_extensions import override

from deformsample.conventions import Pixels
from deformsample.data.augmentation import Augmentation, Compose
from deformsample.data.cache import DecodedCache
from deformsample.data.datasets.classification_dataset import ClassificationSample
from deformsample.data.datasets.image_dataset import S
from deformsample.data.datasets.segmentation_dataset import SegmentationDataset, SegmentationSample
from deformsample.errors import ArgumentError, DataError
from deformsample.files.levels import read_level
from deformsample.kernels.pixels import channels_first


class SegmentationItem(TypedDict):
    """One image with its labels."""

    image: Tensor
    """(3, h, w) uint8."""

    labels: Tensor
    """(h, w) uint8, ``IGNORE_INDEX`` where there is no class."""

    index: int
    """Index of the sample in its split."""


class SegmentationBatch(TypedDict):
    """Images of one size with their labels."""

    image: Tensor
    """(b, 3, h, w) uint8."""

    labels: Tensor
    """(b, h, w) uint8, ``IGNORE_INDEX`` where there is no class."""

    index: Tensor
    """(b,) indices of the samples in their split."""


class ClassificationItem(TypedDict):
    """One image with one label."""

    image: Tensor
    """(3, h, w) uint8."""

    label: float
    """Class id, or score."""

    index: int
    """Index of the sample in its split."""


class ClassificationBatch(TypedDict):
    """Images of one size with their labels."""

    image: Tensor
    """(b, 3, h, w) uint8."""

    label: Tensor
    """(b,) float32, class ids or scores."""

    index: Tensor
    """(b,) indices of the samples in their split."""


class ImageSplit(Dataset[Any], Generic[S]):
    """The samples of one split, read and augmented.

    Args:
        samples: the samples.
        augmentation: albumentations transforms.
        cache: cache of decoded images, or ``None``.
    """

    def __init__(
        self,
        samples: Sequence[S],
        augmentation: Sequence[Augmentation] = (),
        cache: DecodedCache | None = None,
    ) -> None:
        self.samples = samples
        self.augmentation = Compose(list(augmentation)) if augmentation else None
        self.cache = cache

    def __len__(self) -> int:
        return len(self.samples)

    @abstractmethod
    def __getitem__(self, index: int) -> Any:
        """The item of an index: tensors and numbers."""

    def file(self, index: int) -> Path:
        """The image file of an index."""
        return self.samples[index].image

    def _decoded(self, purpose: str, file: Path, decode: Callable[[], Pixels]) -> Pixels:
        return decode() if self.cache is None else self.cache.get(purpose, file, decode)

    def _augmented(self, **pixels: Pixels) -> dict[str, Pixels]:
        if self.augmentation is None:
            return pixels
        # In training, torch is seeded per item; albumentations has separate generators.
        self.augmentation.set_random_seed(int(torch.randint(2**31, ())))
        augmented: dict[str, Pixels] = self.augmentation(**pixels)
        return augmented


class SegmentationSplit(ImageSplit[SegmentationSample]):
    """The samples of one split, read and augmented at full resolution.

    Args:
        dataset: reads the files.
        samples: the samples.
        augmentation: albumentations transforms, applied to image and labels together.
        cache: cache of decoded images and labels, or ``None``.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        samples: Sequence[SegmentationSample],
        augmentation: Sequence[Augmentation] = (),
        cache: DecodedCache | None = None,
    ) -> None:
        super().__init__(samples, augmentation, cache)
        self.dataset = dataset

    @override
    def __getitem__(self, index: int) -> SegmentationItem:
        sample = self.samples[index]
        read = partial(self.dataset.read_image, sample)
        image = self._decoded(f"image|{self._key(sample)}", sample.image, read)
        labels = self.read_labels(sample)
        if image.shape[:2] != labels.shape:
            raise DataError(
                f"Expected labels of {image.shape[:2]} pixels for {sample.image}, but "
                f"{sample.labels} has {labels.shape}."
            )
        augmented = self._augmented(image=image, mask=labels)
        return {
            "image": torch.from_numpy(channels_first(augmented["image"])),
            "labels": torch.from_numpy(augmented["mask"].copy()),
            "index": index,
        }

    def read_labels(self, sample: SegmentationSample) -> Pixels:
        """The class ids of a sample, (h, w) uint8, not augmented."""
        read = partial(self.dataset.read_labels, sample)
        return self._decoded(f"labels|{self._key(sample)}", sample.labels, read)

    def _key(self, sample: SegmentationSample) -> str:
        return f"{self.dataset.settings}|{sample.name}"


class ClassificationSplit(ImageSplit[ClassificationSample]):
    """The samples of one split, read at a level and augmented there.

    Args:
        samples: the samples.
        level: number of halvings of an image when it is read.
        augmentation: albumentations transforms.
        cache: cache of decoded images, or ``None``.
    """

    def __init__(
        self,
        samples: Sequence[ClassificationSample],
        level: int = 0,
        augmentation: Sequence[Augmentation] = (),
        cache: DecodedCache | None = None,
    ) -> None:
        super().__init__(samples, augmentation, cache)
        self.level = level

    @override
    def __getitem__(self, index: int) -> ClassificationItem:
        sample = self.samples[index]
        read = partial(read_level, sample.image, self.level)
        image = self._decoded(f"level {self.level}", sample.image, read)
        return {
            "image": torch.from_numpy(channels_first(self._augmented(image=image)["image"])),
            "label": float(sample.label),
            "index": index,
        }


def collate(items: Sequence[Any]) -> Any:
    """Stack items of one size into a batch with the same keys.

    Raises:
        ArgumentError: the sizes differ.
    """
    sizes = {tuple(item["image"].shape[1:]) for item in items}
    if len(sizes) > 1:
        raise ArgumentError(
            f"Expected images of one size in a batch, but got {sorted(sizes)}: set "
            "`--data.batch_size 1` (with `--trainer.accumulate_grad_batches` for larger steps), or "
            "crop them in `data.augmentation`."
        )
    return {key: torch.stack([torch.as_tensor(item[key]) for item in items]) for key in items[0]}
