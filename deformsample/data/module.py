"""The one Lightning data module, for every data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TypedDict

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else its import asks the network

import albumentations as A
import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from deformsample.data.cache import DecodedCache
from deformsample.data.dataset import Sample, SegmentationDataset, Split
from deformsample.data.images import Pixels
from deformsample.data.labels import Colour
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

    def __getitem__(self, index: int) -> Item:
        sample = self.samples[index]
        image, labels = self._read(sample)
        if image.shape[:2] != labels.shape:
            raise DataError(
                f"Expected labels of {image.shape[:2]} pixels for {sample.image}, but "
                f"{sample.labels} has {labels.shape}."
            )
        if self.augmentation is not None:
            # torch seeds every worker and epoch differently; albumentations would not.
            self.augmentation.set_random_seed(int(torch.randint(2**31, ())))
            changed = self.augmentation(image=image, mask=labels)
            image, labels = changed["image"], changed["mask"]
        return {
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            "labels": torch.from_numpy(labels.copy()),
            "index": index,
        }

    def _read(self, sample: Sample) -> tuple[Pixels, Pixels]:
        image = partial(self.dataset.read_image, sample)
        labels = partial(self.dataset.read_labels, sample)
        if self.cache is None or sample.labels is None:
            return image(), labels()
        own = f"{self.dataset.settings}|{sample.name}"
        return (
            self.cache.get(f"image|{own}", sample.image, image),
            self.cache.get(f"labels|{own}", sample.labels, labels),
        )


class SegmentationData(pl.LightningDataModule):
    """Loads any data set for training, validation, test and prediction.

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
        super().__init__()
        if batch_size < 1 or num_workers < 0:
            raise ArgumentError(
                "Expected `batch_size` of at least 1 and `num_workers` of at least 0, but got "
                f"{batch_size} and {num_workers}."
            )
        self.dataset = dataset(root)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.augmentation = augmentation or []
        self.predict_split = predict_split
        limit = None if cache_gigabytes is None else int(cache_gigabytes * 1e9)
        self.cache = None if cache is None else DecodedCache(Path(cache).expanduser(), limit)
        self.parts: dict[Split, SplitDataset] = {}

    @property
    def classes(self) -> Mapping[str, Colour]:
        """Name and colour of every class, in the order of the ids."""
        return self.dataset.classes

    @property
    def num_classes(self) -> int:
        """How many classes there are."""
        return len(self.dataset.classes)

    def setup(self, stage: str) -> None:
        """List the files of the splits that a stage needs.

        Raises:
            DataError: missing folders or files, or a split without images.
        """
        needed: dict[str, tuple[Split, ...]] = {
            "fit": ("train", "val"),
            "validate": ("val",),
            "test": ("test",),
            "predict": (self.predict_split,),
        }
        for split in needed[stage]:
            if split not in self.parts:
                self.parts[split] = self._part(split)

    def train_dataloader(self) -> DataLoader[Item]:
        """Shuffled and augmented; a last batch that is not full is dropped if it is not alone."""
        part = self.parts["train"]
        return self._loader(part, shuffle=True, drop_last=len(part) >= self.batch_size)

    def val_dataloader(self) -> DataLoader[Item]:
        """In order, every image once over all processes."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Item]:
        """In order, every image once over all processes."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader[Item]:
        """In order, every image once over all processes."""
        return self._evaluation_loader(self.predict_split)

    def _part(self, split: Split) -> SplitDataset:
        samples = self.dataset.samples(split)
        if not samples:
            raise DataError(
                f"Expected images in the split {split!r} of {type(self.dataset).__name__}, but "
                "found none: check `--data.root` and how the data set is divided."
            )
        augmentation = self.augmentation if split == "train" else ()
        return SplitDataset(self.dataset, samples, augmentation, self.cache)

    def _evaluation_loader(self, split: Split) -> DataLoader[Item]:
        part = self.parts[split]
        sampler = None
        processes = 1 if self.trainer is None else self.trainer.world_size
        if self.trainer is not None and processes > 1:
            if len(part) < processes:
                raise ArgumentError(
                    f"Expected an image for each of {processes} processes, but the split {split!r} "
                    f"has {len(part)}: use fewer devices."
                )
            # Lightning's own choice repeats images until the processes have equally many, which
            # would count those twice.
            sampler = UnrepeatedDistributedSampler(
                part, num_replicas=processes, rank=self.trainer.global_rank, shuffle=False
            )
        return self._loader(part, sampler=sampler)

    def _loader(
        self,
        part: SplitDataset,
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        sampler: DistributedSampler[Item] | None = None,
    ) -> DataLoader[Item]:
        return DataLoader(
            part,
            batch_size=self.batch_size,
            shuffle=shuffle,
            drop_last=drop_last,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=collate,
        )


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
