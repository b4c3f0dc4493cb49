"""The one Lightning data module, for every segmentation data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import albumentations as A
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from deformsample.data.cache import DecodedCache
from deformsample.data.dataset import Sample, SegmentationDataset, Split
from deformsample.data.images import Pixels
from deformsample.data.labels import Colour
from deformsample.data.loading import ImageData
from deformsample.errors import ArgumentError, DataError


class Item(TypedDict):
    """One image with its labels."""

    image: Tensor
    """(3, h, w) uint8."""

    labels: Tensor
    """(h, w) uint8, ``IGNORE_INDEX`` where there is no class."""

    index: int
    """Of the sample in its split."""


class Batch(TypedDict):
    """Images of one size with their labels."""

    image: Tensor
    """(b, 3, h, w) uint8."""

    labels: Tensor
    """(b, h, w) uint8, ``IGNORE_INDEX`` where there is no class."""

    index: Tensor
    """(b,) of the samples in their split."""


class SplitDataset(Dataset[Item]):
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
        samples: Sequence[Sample],
        augmentation: Sequence[A.BasicTransform] = (),
        cache: DecodedCache | None = None,
    ) -> None:
        self.dataset = dataset
        self.samples = samples
        self.augmentation = A.Compose(list(augmentation)) if augmentation else None
        self.cache = cache

    def __len__(self) -> int:
        return len(self.samples)

    def file(self, index: int) -> Path:
        """Of the image of that index."""
        return self.samples[index].image

    def __getitem__(self, index: int) -> Item:
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

    def read_labels(self, sample: Sample) -> Pixels:
        """The class ids of a sample, not augmented."""
        read = partial(self.dataset.read_labels, sample)
        if self.cache is None or sample.labels is None:
            return read()
        return self.cache.get(f"labels|{self._key(sample)}", sample.labels, read)

    def _read(self, sample: Sample) -> tuple[Pixels, Pixels]:
        image = partial(self.dataset.read_image, sample)
        if self.cache is None or sample.labels is None:
            return image(), self.read_labels(sample)
        return (
            self.cache.get(f"image|{self._key(sample)}", sample.image, image),
            self.read_labels(sample),
        )

    def _key(self, sample: Sample) -> str:
        return f"{self.dataset.settings}|{sample.name}"


class SegmentationData(ImageData):
    """Loads any segmentation data set for training, validation, test and prediction.

    Args:
        dataset: class of the data set; it is called with ``root``.
        root: folder of the data.
        batch_size: images per step and device. Images of different sizes need 1.
        num_workers: processes that read images; they stay alive between epochs.
        augmentation: albumentations transforms for training, applied to the full image and its
            labels together.
        predict_split: which split ``predict`` works on.
        cache: folder for decoded images and labels, which later epochs and runs map into memory
            instead of decoding the files again; ``None`` decodes every time. It takes as much disk
            as the decoded data: 4 bytes a pixel.
        cache_gigabytes: how much the folder may hold; what does not fit, there or on the disk, is
            decoded every time.
    """

    def __init__(
        self,
        dataset: Callable[[str | None], SegmentationDataset],
        root: str | None = None,
        batch_size: int = 4,
        num_workers: int = 2,
        augmentation: list[A.BasicTransform] | None = None,
        predict_split: Split = "val",
        cache: str | None = None,
        cache_gigabytes: float | None = None,
    ) -> None:
        super().__init__(
            collate,
            batch_size,
            num_workers,
            augmentation,
            predict_split,
            cache,
            cache_gigabytes,
        )
        self.dataset = dataset(root)
        self.parts: dict[Split, SplitDataset] = {}
        self.shares: list[float] | None = None

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the seed, and the shares of the classes where they are known."""
        return {**super().state_dict(), "shares": self.shares}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with what a checkpoint keeps."""
        super().load_state_dict(state_dict)
        self.shares = state_dict.get("shares", self.shares)

    def class_shares(self) -> list[float]:
        """The share of each class in the labelled pixels of the training split.

        Counted once by reading all labels; a run that is resumed has its checkpoint's.
        """
        if self.shares is None:
            part = self.parts.get("train") or self._part("train")
            counts = np.zeros(256, dtype=np.int64)
            for sample in part.samples:
                counts += np.bincount(part.read_labels(sample).ravel(), minlength=256)
            known = counts[: self.num_classes]
            self.shares = (known / max(1, int(known.sum()))).tolist()
        return self.shares

    @property
    def classes(self) -> Mapping[str, Colour]:
        """Name and colour of every class, in the order of the ids."""
        return self.dataset.classes

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.dataset.classes)

    def _part(self, split: Split) -> SplitDataset:
        samples = self.dataset.samples(split)
        if not samples:
            raise DataError(
                f"Expected images in the split {split!r} of {type(self.dataset).__name__}, but "
                "found none: check `--data.root` and how the data set is divided."
            )
        augmentation = self.augmentation if split == "train" else ()
        return SplitDataset(self.dataset, samples, augmentation, self.cache)


def collate(items: Sequence[Item]) -> Batch:
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
