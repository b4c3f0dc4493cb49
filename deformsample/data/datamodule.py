"""What every data module does: it splits, caches and loads images."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.overrides.distributed import UnrepeatedDistributedSampler
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.distributed import DistributedSampler

from deformsample.conventions import Colour
from deformsample.data.cache import DecodedCache
from deformsample.data.datasets.classification_dataset import (
    ClassificationDataset,
    ClassificationSample,
)
from deformsample.data.datasets.segmentation_dataset import SegmentationDataset
from deformsample.data.items import (
    BasicTransform,
    ClassificationSplit,
    SegmentationSplit,
    collate,
    collate_labelled,
)
from deformsample.data.seeding import EpochOrder, SeededItems
from deformsample.data.splits import RandomSplit, Split, Splitter
from deformsample.errors import ArgumentError, DataError


class ImageDataModule(pl.LightningDataModule):
    """Loads the splits of a data set for training, validation, test and prediction.

    The order of training images and their augmentation follow from the seed, the epoch and the
    image alone: not from the number of workers, nor from what was drawn before. The seed is that of
    torch when this object is made; a run that is resumed has its checkpoint's.

    Args:
        collate: makes a batch of the items of a split.
        batch_size: images per step and device. Images of different sizes need 1.
        num_workers: processes that read images; they stay alive between epochs.
        augmentation: albumentations transforms for training.
        predict_split: which split ``predict`` works on.
        cache: folder for what is decoded; ``None`` decodes every time.
        cache_gigabytes: how much the folder may hold.
    """

    def __init__(
        self,
        collate: Callable[[Sequence[Any]], Any],
        batch_size: int,
        num_workers: int,
        augmentation: list[BasicTransform] | None,
        predict_split: Split,
        cache: str | None,
        cache_gigabytes: float | None,
    ) -> None:
        super().__init__()
        if batch_size < 1 or num_workers < 0:
            raise ArgumentError(
                "Expected `batch_size` of at least 1 and `num_workers` of at least 0, but got "
                f"{batch_size} and {num_workers}."
            )
        self.collate = collate
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.augmentation = augmentation or []
        self.predict_split = predict_split
        limit = None if cache_gigabytes is None else int(cache_gigabytes * 1e9)
        self.cache = None if cache is None else DecodedCache(Path(cache).expanduser(), limit)
        self.parts: dict[Split, Any] = {}
        self.seed = torch.initial_seed()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps: the seed."""
        return {"seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the seed of a checkpoint."""
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
        """Shuffled and augmented; a last batch that is not full is dropped if it is not alone."""
        part = self.parts["train"]
        if self.trainer is None:
            order = EpochOrder(SeededItems(part, self.seed))
        else:
            self.seed = self.trainer.strategy.broadcast(self.seed)
            order = self._order(SeededItems(part, self.seed), self.trainer)
        return self._loader(order.dataset, order, drop_last=len(part) >= self.batch_size)

    def val_dataloader(self) -> DataLoader[Any]:
        """In order, every image once over all processes."""
        return self._evaluation_loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        """In order, every image once over all processes."""
        return self._evaluation_loader("test")

    def predict_dataloader(self) -> DataLoader[Any]:
        """In order, every image once over all processes."""
        return self._evaluation_loader(self.predict_split)

    @abstractmethod
    def _part(self, split: Split) -> Dataset[Any]:
        """The images of a split.

        Raises:
            DataError: there are none.
        """

    def _order(self, items: SeededItems, trainer: pl.Trainer) -> EpochOrder:
        """From the place where a checkpoint was written, if there is one."""
        epochs: Any = trainer.fit_loop.epoch_progress.current
        progress = trainer.fit_loop.epoch_loop.batch_progress
        batches: Any = progress.current
        under_way = epochs.started > epochs.processed
        ended = under_way and progress.is_last_batch
        return EpochOrder(
            items,
            trainer.world_size,
            trainer.global_rank,
            # Lightning tells it too late: workers read the first batches before.
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
            # Lightning's own choice repeats images until the processes have equally many, which
            # would count those twice.
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
            generator=torch.Generator(),  # else it would draw from the one of training
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
            collate_fn=self.collate,
        )


class SegmentationDataModule(ImageDataModule):
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
        augmentation: list[BasicTransform] | None = None,
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
        self.parts: dict[Split, SegmentationSplit] = {}
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

    def _part(self, split: Split) -> SegmentationSplit:
        samples = self.dataset.samples(split)
        if not samples:
            raise DataError(
                f"Expected images in the split {split!r} of {type(self.dataset).__name__}, but "
                "found none: check `--data.root` and how the data set is divided."
            )
        augmentation = self.augmentation if split == "train" else ()
        return SegmentationSplit(self.dataset, samples, augmentation, self.cache)


class ClassificationDataModule(ImageDataModule):
    """Loads images with a label each for training, validation, test and prediction.

    Args:
        dataset: class of the data set; it is called with ``root``.
        root: folder of the data.
        splitter: into train, val and test; ``None`` for the data set's own, or, if it has none,
            :class:`RandomSplit`.
        level: how often images are halved, by means of 2 x 2 pixels, when they are read. Of slides
            and large TIFFs, only that level is ever in memory.
        batch_size: images per step and device. Images of different sizes need 1.
        num_workers: processes that read images; they stay alive between epochs.
        augmentation: albumentations transforms for training, applied to the image at its level.
        predict_split: which split ``predict`` works on.
        cache: folder for decoded images, as of :class:`SegmentationDataModule`; 3 bytes a pixel.
        cache_gigabytes: how much the folder may hold.
    """

    def __init__(
        self,
        dataset: Callable[[str | None], ClassificationDataset],
        root: str | None = None,
        splitter: Splitter | None = None,
        level: int = 0,
        batch_size: int = 4,
        num_workers: int = 2,
        augmentation: list[BasicTransform] | None = None,
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
        self.splitter = splitter
        self.level = level
        self.parts: dict[Split, ClassificationSplit] = {}

    @property
    def classes(self) -> Sequence[str]:
        """Their names in the order of their numbers; none where labels are scores."""
        return self.dataset.classes

    @property
    def num_classes(self) -> int:
        """How many scores an image gets, one for each class or a single one."""
        return max(1, len(self.dataset.classes))

    def images(self, split: Split) -> list[ClassificationSample]:
        """Those of a split, in order, without reading them."""
        images = self.dataset.images()
        split_of = self._divided(images)
        return [image for image in images if split_of.get(image.name) == split]

    def _part(self, split: Split) -> ClassificationSplit:
        own = self.images(split)
        if not own:
            raise DataError(
                f"Expected images in the split {split!r} of {type(self.dataset).__name__}, but "
                "found none: check `--data.root` and `data.splitter`."
            )
        augmentation = self.augmentation if split == "train" else ()
        return ClassificationSplit(own, self.level, augmentation, self.cache)

    def _divided(self, images: Sequence[ClassificationSample]) -> dict[str, str]:
        told = {image.name: image.split for image in images if image.split is not None}
        if self.splitter is None and told:
            return told
        names = [image.name for image in images]
        return (self.splitter or RandomSplit()).divide(names, self.dataset.root)
