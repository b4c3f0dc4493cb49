"""The Lightning data module of images with a label each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypedDict

import albumentations as A
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from deformsample.data.cache import DecodedCache
from deformsample.data.dataset import Split
from deformsample.data.divisions import Division, Shares
from deformsample.data.labelled import LabelledDataset, LabelledImage
from deformsample.data.levels import read_level
from deformsample.data.loading import ImageData
from deformsample.errors import ArgumentError, DataError


class LabelledItem(TypedDict):
    """One image with its label."""

    image: Tensor
    """(3, h, w) uint8."""

    label: float
    """The number of its class, or its score."""

    index: int
    """Of the image in its split."""


class LabelledBatch(TypedDict):
    """Images of one size with their labels."""

    image: Tensor
    """(b, 3, h, w) uint8."""

    label: Tensor
    """(b,) float32, numbers of classes, or scores."""

    index: Tensor
    """(b,) of the images in their split."""


class LabelledSplit(Dataset[LabelledItem]):
    """The images of one split, read and augmented.

    Args:
        images: what to read.
        level: how often they are halved when they are read.
        augmentation: albumentations transforms.
        cache: where decoded images are kept, or ``None``.
    """

    def __init__(
        self,
        images: Sequence[LabelledImage],
        level: int = 0,
        augmentation: Sequence[A.BasicTransform] = (),
        cache: DecodedCache | None = None,
    ) -> None:
        self.images = images
        self.level = level
        self.augmentation = A.Compose(list(augmentation)) if augmentation else None
        self.cache = cache

    def __len__(self) -> int:
        return len(self.images)

    def file(self, index: int) -> Path:
        """Of the image of that index."""
        return self.images[index].file

    def __getitem__(self, index: int) -> LabelledItem:
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


class ClassificationData(ImageData):
    """Loads images with a label each for training, validation, test and prediction.

    Args:
        dataset: class of the data set; it is called with ``root``.
        root: folder of the data.
        division: into train, val and test; ``None`` for the data set's own, or, if it has none,
            :class:`Shares`.
        level: how often images are halved, by means of 2 x 2 pixels, when they are read. Of slides
            and large TIFFs, only that level is ever in memory.
        batch_size: images per step and device. Images of different sizes need 1.
        num_workers: processes that read images; they stay alive between epochs.
        augmentation: albumentations transforms for training, applied to the image at its level.
        predict_split: which split ``predict`` works on.
        cache: folder for decoded images, as of :class:`SegmentationData`; 3 bytes a pixel.
        cache_gigabytes: how much the folder may hold.
    """

    def __init__(
        self,
        dataset: Callable[[str | None], LabelledDataset],
        root: str | None = None,
        division: Division | None = None,
        level: int = 0,
        batch_size: int = 4,
        num_workers: int = 2,
        augmentation: list[A.BasicTransform] | None = None,
        predict_split: Split = "val",
        cache: str | None = None,
        cache_gigabytes: float | None = None,
    ) -> None:
        super().__init__(
            collate_labelled,
            batch_size,
            num_workers,
            augmentation,
            predict_split,
            cache,
            cache_gigabytes,
        )
        if level < 0:
            raise ArgumentError(f"Expected `level` of at least 0, but got {level}.")
        self.dataset = dataset(root)
        self.division = division
        self.level = level
        self.parts: dict[Split, LabelledSplit] = {}

    @property
    def classes(self) -> Sequence[str]:
        """Their names in the order of their numbers; none where labels are scores."""
        return self.dataset.classes

    @property
    def num_classes(self) -> int:
        """How many scores an image gets, one for each class or a single one."""
        return max(1, len(self.dataset.classes))

    def images(self, split: Split) -> list[LabelledImage]:
        """Those of a split, in order, without reading them."""
        images = self.dataset.images()
        split_of = self._divided(images)
        return [image for image in images if split_of.get(image.name) == split]

    def _part(self, split: Split) -> LabelledSplit:
        own = self.images(split)
        if not own:
            raise DataError(
                f"Expected images in the split {split!r} of {type(self.dataset).__name__}, but "
                "found none: check `--data.root` and `data.division`."
            )
        augmentation = self.augmentation if split == "train" else ()
        return LabelledSplit(own, self.level, augmentation, self.cache)

    def _divided(self, images: Sequence[LabelledImage]) -> dict[str, str]:
        told = {image.name: image.split for image in images if image.split is not None}
        if self.division is None and told:
            return told
        names = [image.name for image in images]
        return (self.division or Shares()).divide(names, self.dataset.root)


def collate_labelled(items: Sequence[LabelledItem]) -> LabelledBatch:
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
