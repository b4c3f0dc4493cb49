"""The data modules, which split, cache and load images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, get_args

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.overrides.distributed import UnrepeatedDistributedSampler
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler
from typing_extensions import override

from deformsample.data.augmentation import Augmentation
from deformsample.data.cache import DecodedCache
from deformsample.data.datasets.classification_dataset import (
    ClassificationDataset,
    ClassificationSample,
)
from deformsample.data.datasets.image_dataset import ImageDataset, S
from deformsample.data.datasets.segmentation_dataset import SegmentationDataset, SegmentationSample
from deformsample.data.items import ClassificationSplit, SegmentationSplit, collate
from deformsample.data.seeding import EpochOrder, SeededItems
from deformsample.data.splits import RandomSplit, Split, Splitter
from deformsample.errors import ArgumentError, DataError, listed


class ImageDataModule(pl.LightningDataModule, Generic[S]):
    """Loads the splits of a data set for training, validation, test and prediction.

    The order of training images and their augmentation depend only on the seed, the epoch and the
    image, not on the number of workers. The seed is torch's when this object is created, or the
    checkpoint's for a resumed run.

    Args:
        dataset: class of the data set; it is called with ``root``.
        root: folder of the data.
        splitter: assigns images that the data set does not assign to a split; ``None`` leaves them
            out, or is :class:`RandomSplit` if the data set assigns no image.
        batch_size: images per step and device. Images of different sizes need 1.
        num_workers: processes that read images; they persist between epochs.
        augmentation: albumentations transforms for training, applied to images and labels at full
            resolution. In configs, ``fill_mask`` is 255 by default: pixels that a transform pads
            have no class.
        predict_split: the split for ``predict``.
        cache: folder for decoded images, which later epochs and runs memory-map instead of decoding
            the files again; ``None`` decodes every time. It needs 3 bytes per pixel, and 1 per
            pixel label.
        cache_gigabytes: maximum size of the folder; images that do not fit are decoded every time.
    """

    def __init__(
        self,
        dataset: Callable[[str | None], ImageDataset[S]],
        root: str | None = None,
        splitter: Splitter | None = None,
        batch_size: int = 4,
        num_workers: int = 2,
        augmentation: list[Augmentation] | None = None,
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
        self.splitter = splitter
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.augmentation = augmentation or []
        self.predict_split = predict_split
        limit = None if cache_gigabytes is None else int(cache_gigabytes * 1e9)
        self.cache = None if cache is None else DecodedCache(Path(cache).expanduser(), limit)
        self.parts: dict[Split, Any] = {}
        self.seed = torch.initial_seed()

    @property
    def classes(self) -> Any:
        """Class names of the data set, with colours for segmentation."""
        return self.dataset.classes

    @property
    def num_classes(self) -> int:
        """The number of classes; 1 if labels are scores."""
        return max(1, len(self.dataset.classes))

    @cached_property
    def splits(self) -> dict[str, list[S]]:
        """Samples by split, in order, without reading them. The files are listed once.

        Raises:
            DataError: missing or invalid folders or files.
        """
        return self.place(self.dataset.samples())

    def place(self, samples: Sequence[S]) -> dict[str, list[S]]:
        """Samples by split; samples in no split are left out."""
        rest = dict.fromkeys(s.group or s.name for s in samples if s.split is None)
        if self.splitter is not None and samples and not rest:
            raise ArgumentError(
                f"Expected no `data.splitter`, since {type(self.dataset).__name__} has the split "
                f"of every image, but got {type(self.splitter).__name__}: remove either."
            )
        default = None if any(s.split for s in samples) else RandomSplit()
        splitter = self.splitter or default
        split_of = splitter.split(list(rest), self.dataset.root) if splitter and rest else {}
        splits: dict[str, list[S]] = {split: [] for split in get_args(Split)}
        for sample in samples:
            split = sample.split or split_of.get(sample.group or sample.name)
            if split is not None:
                splits[split].append(sample)
        return splits

    def describe(self) -> dict[str, Any]:
        """Description for checkpoints: ``data``, the class name of the data set."""
        return {"data": type(self.dataset).__name__}

    def state_dict(self) -> dict[str, Any]:
        """State for checkpoints: the seed."""
        return {"seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the seed of a checkpoint."""
        self.seed = state_dict["seed"]

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

    def train_dataloader(self) -> DataLoader[Any]:
        """Shuffled and augmented; an incomplete last batch is dropped unless it is the only one."""
        part = self.parts["train"]
        if self.trainer is None:
            order = EpochOrder(SeededItems(part, self.seed))
        else:
            self.seed = self.trainer.strategy.broadcast(self.seed)
            order = self._order(SeededItems(part, self.seed), self.trainer)
        return self._loader(order.dataset, order, drop_last=len(part) >= self.batch_size)

    def val_dataloader(self) -> DataLoader[Any]:
        """In order; every image exactly once over all processes."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """In order; every image exactly once over all processes."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """In order; every image exactly once over all processes."""
        return self._evaluation_loader(self.predict_split)

    @abstractmethod
    def _items(self, samples: Sequence[S], augmentation: Sequence[Augmentation]) -> Dataset[Any]:
        """A torch data set that reads and augments samples."""

    def _part(self, split: Split) -> Any:
        if not self.splits[split]:
            raise DataError(
                f"Expected images in the split {split!r} of {type(self.dataset).__name__}, but "
                "found none: check `--data.root` and `data.splitter`."
            )
        return self._items(self.splits[split], self.augmentation if split == "train" else ())

    def _order(self, items: SeededItems, trainer: pl.Trainer) -> EpochOrder:
        """The order of an epoch, continued where a checkpoint was written."""
        epochs: Any = trainer.fit_loop.epoch_progress.current
        progress = trainer.fit_loop.epoch_loop.batch_progress
        batches: Any = progress.current
        under_way = epochs.started > epochs.processed
        ended = under_way and progress.is_last_batch
        return EpochOrder(
            items,
            trainer.world_size,
            trainer.global_rank,
            # Lightning sets the epoch too late: workers already read the first batches.
            epoch=epochs.processed + ended,
            done=batches.processed * self.batch_size if under_way and not ended else 0,
        )

    def _evaluation_loader(self, split: Split) -> DataLoader[Any]:
        part = self.parts[split]
        sampler = None
        processes = 1 if self.trainer is None else self.trainer.world_size
        if self.trainer is not None and processes > 1:
            if len(part) < processes:
                raise ArgumentError(
                    f"Expected an image for each of {processes} processes, but the split {split!r} "
                    f"has {len(part)}: use fewer devices."
                )
            # Lightning's default repeats images to give all processes equally many, which would
            # count them twice.
            sampler = UnrepeatedDistributedSampler(
                part, num_replicas=processes, rank=self.trainer.global_rank, shuffle=False
            )
        return self._loader(part, sampler)

    def _loader(
        self,
        part: Dataset[Any],
        sampler: DistributedSampler[Any] | None,
        *,
        drop_last: bool = False,
    ) -> DataLoader[Any]:
        return DataLoader(
            part,
            batch_size=self.batch_size,
            drop_last=drop_last,
            sampler=sampler,
            generator=torch.Generator(),  # a separate generator keeps that of training
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=collate,
        )


class SegmentationDataModule(ImageDataModule[SegmentationSample]):
    """Loads any segmentation data set for training, validation, test and prediction.

    Args:
        dataset: class of the data set; it is called with ``root``.
        root: folder of the data.
        options: arguments of :class:`ImageDataModule`.
    """

    dataset: SegmentationDataset
    parts: dict[Split, SegmentationSplit]

    def __init__(
        self,
        dataset: Callable[[str | None], SegmentationDataset],
        root: str | None = None,
        **options: Any,
    ) -> None:
        super().__init__(dataset, root, **options)
        if other := [name for name in self.classes if not isinstance(name, str)]:
            raise ArgumentError(
                f"Expected names of `classes` to be text, but got {listed(other)}: put names such "
                "as '1', 'no' and 'null' in quotes."
            )
        self.shares: list[float] | None = None

    def state_dict(self) -> dict[str, Any]:
        """State for checkpoints: the seed, and the class shares if they are known."""
        return {**super().state_dict(), "shares": self.shares}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state of a checkpoint."""
        super().load_state_dict(state_dict)
        self.shares = state_dict.get("shares", self.shares)

    def class_shares(self) -> list[float]:
        """The share of each class in the labelled pixels of the training split.

        Computed once by reading all labels; a resumed run takes those of its checkpoint.
        """
        if self.shares is None:
            part = self.parts.get("train") or self._part("train")
            counts = np.zeros(256, dtype=np.int64)
            for sample in part.samples:
                counts += np.bincount(part.read_labels(sample).ravel(), minlength=256)
            known = counts[: self.num_classes]
            self.shares = (known / max(1, int(known.sum()))).tolist()
        return self.shares

    @override
    def _items(
        self, samples: Sequence[SegmentationSample], augmentation: Sequence[Augmentation]
    ) -> SegmentationSplit:
        return SegmentationSplit(self.dataset, samples, augmentation, self.cache)


class ClassificationDataModule(ImageDataModule[ClassificationSample]):
    """Loads images with one label each for training, validation, test and prediction.

    Args:
        dataset: class of the data set; it is called with ``root``.
        root: folder of the data.
        level: number of halvings (2 x 2 means) of an image when it is read. Slides and large TIFFs
            are read at that level.
        options: arguments of :class:`ImageDataModule`.
    """

    dataset: ClassificationDataset
    parts: dict[Split, ClassificationSplit]

    def __init__(
        self,
        dataset: Callable[[str | None], ClassificationDataset],
        root: str | None = None,
        level: int = 0,
        **options: Any,
    ) -> None:
        if level < 0:
            raise ArgumentError(f"Expected `level` of at least 0, but got {level}.")
        super().__init__(dataset, root, **options)
        self.level = level

    @override
    def describe(self) -> dict[str, Any]:
        return {**super().describe(), "level": self.level}

    @override
    def _items(
        self, samples: Sequence[ClassificationSample], augmentation: Sequence[Augmentation]
    ) -> ClassificationSplit:
        return ClassificationSplit(samples, self.level, augmentation, self.cache)
