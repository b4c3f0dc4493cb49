"""Items of a split, read and augmented, and batches of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TypedDict

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from deformsample.conventions import Pixels
from deformsample.data.cache import DecodedCache
from deformsample.data.datasets.classification_dataset import ClassificationSample
from deformsample.data.datasets.segmentation_dataset import SegmentationDataset, SegmentationSample
from deformsample.errors import ArgumentError, DataError
from deformsample.files.levels import read_level

# Before the only import of albumentations, which otherwise asks the package index for updates.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

from albumentations import BasicTransform as BasicTransform  # for the data module
from albumentations import Compose


class SegmentationItem(TypedDict):
    """One image with its labels."""

    image: Tensor
    """(3, h, w) uint8."""

    labels: Tensor
    """(h, w) uint8, ``IGNORE_INDEX`` where there is no class."""

    index: int
    """Of the sample in its split."""


class SegmentationBatch(TypedDict):
    """Images of one size with their labels."""

    image: Tensor
    """(b, 3, h, w) uint8."""

    labels: Tensor
    """(b, h, w) uint8, ``IGNORE_INDEX`` where there is no class."""

    index: Tensor
    """(b,) of the samples in their split."""


class SegmentationSplit(Dataset[SegmentationItem]):
    """The samples of one split, read and augmented at full resolution.

    Args:
        dataset: reads the files.
        samples: what to read.
        augmentation: albumentations transforms, applied to image and labels together.
        cache: where decoded images and labels are kept, or ``None``.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        samples: Sequence[SegmentationSample],
        augmentation: Sequence[BasicTransform] = (),
        cache: DecodedCache | None = None,
    ) -> None:
        self.dataset = dataset
        self.samples = samples
        self.augmentation = Compose(list(augmentation)) if augmentation else None
        self.cache = cache

    def __len__(self) -> int:
        return len(self.samples)

    def file(self, index: int) -> Path:
        """Of the image of that index."""
        return self.samples[index].image

    def __getitem__(self, index: int) -> SegmentationItem:
        sample = self.samples[index]
        image, labels = self._read(sample)
        if image.shape[:2] != labels.shape:
            raise DataError(
                f"Expected labels of {image.shape[:2]} pixels for {sample.image}, but "
                f"{sample.labels} has {labels.shape}."
            )
        if self.augmentation is not None:
            # torch's seed is the item's own in training; albumentations has generators of its own.
            self.augmentation.set_random_seed(int(torch.randint(2**31, ())))
            changed = self.augmentation(image=image, mask=labels)
            image, labels = changed["image"], changed["mask"]
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "labels": torch.from_numpy(labels.copy()),
            "index": index,
        }

    def read_labels(self, sample: SegmentationSample) -> Pixels:
        """The class ids of a sample, not augmented."""
        read = partial(self.dataset.read_labels, sample)
        if self.cache is None or sample.labels is None:
            return read()
        return self.cache.get(f"labels|{self._key(sample)}", sample.labels, read)

    def _read(self, sample: SegmentationSample) -> tuple[Pixels, Pixels]:
        image = partial(self.dataset.read_image, sample)
        if self.cache is None or sample.labels is None:
            return image(), self.read_labels(sample)
        return (
            self.cache.get(f"image|{self._key(sample)}", sample.image, image),
            self.read_labels(sample),
        )

    def _key(self, sample: SegmentationSample) -> str:
        return f"{self.dataset.settings}|{sample.name}"


def collate(items: Sequence[SegmentationItem]) -> SegmentationBatch:
    """Stack images of one size.

    Raises:
        ArgumentError: the sizes differ.
    """
    sizes = {tuple(item["labels"].shape) for item in items}
    if len(sizes) > 1:
        raise ArgumentError(
            f"Expected images of one size in a batch, but got {sorted(sizes)}: set "
            "`--data.batch_size 1` (with `--trainer.accumulate_grad_batches` for larger steps), or "
            "crop them in `data.augmentation`."
        )
    return {
        "image": torch.stack([item["image"] for item in items]),
        "labels": torch.stack([item["labels"] for item in items]),
        "index": torch.tensor([item["index"] for item in items]),
    }


class ClassificationItem(TypedDict):
    """One image with its label."""

    image: Tensor
    """(3, h, w) uint8."""

    label: float
    """The number of its class, or its score."""

    index: int
    """Of the image in its split."""


class ClassificationBatch(TypedDict):
    """Images of one size with their labels."""

    image: Tensor
    """(b, 3, h, w) uint8."""

    label: Tensor
    """(b,) float32, numbers of classes, or scores."""

    index: Tensor
    """(b,) of the images in their split."""


class ClassificationSplit(Dataset[ClassificationItem]):
    """The images of one split, read and augmented.

    Args:
        images: what to read.
        level: how often they are halved when they are read.
        augmentation: albumentations transforms.
        cache: where decoded images are kept, or ``None``.
    """

    def __init__(
        self,
        images: Sequence[ClassificationSample],
        level: int = 0,
        augmentation: Sequence[BasicTransform] = (),
        cache: DecodedCache | None = None,
    ) -> None:
        self.images = images
        self.level = level
        self.augmentation = Compose(list(augmentation)) if augmentation else None
        self.cache = cache

    def __len__(self) -> int:
        return len(self.images)

    def file(self, index: int) -> Path:
        """Of the image of that index."""
        return self.images[index].file

    def __getitem__(self, index: int) -> ClassificationItem:
        image = self.images[index]
        read = partial(read_level, image.file, self.level)
        purpose = f"level {self.level}"
        pixels = read() if self.cache is None else self.cache.get(purpose, image.file, read)
        if self.augmentation is not None:
            # torch's seed is the item's own in training; albumentations has generators of its own.
            self.augmentation.set_random_seed(int(torch.randint(2**31, ())))
            pixels = self.augmentation(image=pixels)["image"]
        own = torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
        return {"image": own, "label": image.label, "index": index}


def collate_labelled(items: Sequence[ClassificationItem]) -> ClassificationBatch:
    """Stack images of one size.

    Raises:
        ArgumentError: the sizes differ.
    """
    sizes = {tuple(item["image"].shape[1:]) for item in items}
    if len(sizes) > 1:
        raise ArgumentError(
            f"Expected images of one size in a batch, but got {sorted(sizes)}: set "
            "`--data.batch_size 1` (with `--trainer.accumulate_grad_batches` for larger steps)."
        )
    return {
        "image": torch.stack([item["image"] for item in items]),
        "label": torch.tensor([item["label"] for item in items], dtype=torch.float32),
        "index": torch.tensor([item["index"] for item in items]),
    }
