"""Random numbers that follow from what they are for, and from nothing that happened before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from typing import Any

import numpy as np
import torch
from pytorch_lightning.utilities.seed import isolate_rng
from torch.utils.data import Dataset
from torch.utils.data.distributed import DistributedSampler


def seed_of(purpose: str, *numbers: int) -> int:
    """A seed of 64 bits, another one for each purpose and numbers."""
    text = repr((purpose, *numbers)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def seed_all(seed: int) -> None:
    """Seed torch on all devices, and NumPy's and Python's own generators."""
    torch.manual_seed(seed)
    _seed_others(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch on the CPU, NumPy and Python; afterwards they go on as if nothing had been."""
    with isolate_rng(include_cuda=False):
        torch.default_generator.manual_seed(seed)
        _seed_others(seed)
        yield


def _seed_others(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - for code of others that draws from it


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
