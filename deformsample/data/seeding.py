"""Random numbers that depend only on their purpose, not on earlier draws."""

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
    """A seed of 64 bits, derived from a purpose and numbers."""
    text = repr((purpose, *numbers)).encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big")


def seed_all(seed: int) -> None:
    """Seed torch on all devices, NumPy and Python."""
    torch.manual_seed(seed)
    _seed_others(seed)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch on the CPU, NumPy and Python; restore their states afterwards."""
    with isolate_rng(include_cuda=False):
        torch.default_generator.manual_seed(seed)
        _seed_others(seed)
        yield


def _seed_others(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002 - used by third-party code


class SeededItems(Dataset[Any]):
    """Items whose random numbers depend only on seed, epoch and index.

    They do not depend on the process or on other items. Item ``epoch * len + index`` is the item of
    that index in that epoch.

    Args:
        items: items that use the generators of torch, NumPy or Python.
        seed: seed of the run.
    """

    def __init__(self, items: Dataset[Any], seed: int) -> None:
        self.items = items
        self.seed = seed

    def __len__(self) -> int:
        return len(self.items)  # type: ignore[arg-type]

    def __getitem__(self, position: int) -> Any:
        epoch, index = divmod(position, len(self))
        with seeded(seed_of("item", self.seed, epoch, index)):
            return self.items[index]


class EpochOrder(DistributedSampler[Any]):
    """Shuffles :class:`SeededItems` in every epoch, and divides them among processes.

    Args:
        items: the items.
        processes: number of processes.
        rank: rank of this process.
        epoch: first epoch; Lightning sets the later ones.
        done: number of items of this process that the first epoch already used.
    """

    def __init__(
        self, items: SeededItems, processes: int = 1, rank: int = 0, epoch: int = 0, done: int = 0
    ) -> None:
        # The base class adds the epoch to the seed; nearby seeds would give equal orders.
        order = seed_of("order", items.seed) // 2
        super().__init__(items, processes, rank, shuffle=True, seed=order)
        self.epoch = epoch
        self.first_epoch = epoch
        self.done = done

    def __iter__(self) -> Iterator[Any]:
        first = self.epoch * len(self.dataset)  # type: ignore[arg-type]
        order = list(super().__iter__())
        done = self.done if self.epoch == self.first_epoch else 0
        return iter([first + index for index in order[done:]])
