"""The order of training images and their augmentation: functions of seed and epoch alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler

from deformsample.seeding import seed_of, seeded


class SeededItems(Dataset[Any]):
    """Items whose random numbers follow from seed, epoch and index.

    So they are the same in whatever process they are read, after whatever else was read. Item
    ``epoch * len + index`` is the item of that index in that epoch.

    Args:
        items: draws random numbers from the generators of torch, NumPy or Python.
        seed: of the run.
    """

    def __init__(self, items: Dataset[Any], seed: int) -> None:
        self.items = items
        self.seed = seed

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]

    def __getitem__(self, number: int) -> Any:
        epoch, index = divmod(number, len(self))
        with seeded(seed_of("item", self.seed, epoch, index)):
            return self.items[index]


class EpochOrder(DistributedSampler[Any]):
    """Shuffles :class:`SeededItems`, every epoch by itself, and divides them among processes.

    Args:
        items: what is shuffled.
        processes: how many there are.
        rank: number of this one.
        epoch: the one to begin with; Lightning sets the later ones.
        done: of this process's items, those of the first epoch that were trained on already.
    """

    def __init__(
        self, items: SeededItems, processes: int = 1, rank: int = 0, epoch: int = 0, done: int = 0
    ) -> None:
        # Epochs are added to the seed: those of neighbouring seeds would be the same.
        order = seed_of("order", items.seed) // 2
        super().__init__(items, processes, rank, shuffle=True, seed=order)
        self.epoch = epoch
        self.begun = epoch
        self.done = done

    def __iter__(self) -> Iterator[Any]:
        first = self.epoch * len(self.dataset)  # type: ignore[arg-type]
        order = list(super().__iter__())
        done = self.done if self.epoch == self.begun else 0
        return iter([first + index for index in order[done:]])
