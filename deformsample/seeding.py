"""Random numbers that follow from what they are for, and from nothing that happened before."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b

import numpy as np
import torch
from pytorch_lightning.utilities.seed import isolate_rng


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
