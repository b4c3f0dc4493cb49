"""Functions compiled for the CPU, and threads to run them in."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from typing import Any, TypeVar, cast

import numpy as np
from numba import njit

_Function = TypeVar("_Function", bound=Callable[..., object])


def compiled(function: _Function) -> _Function:
    """Compile a function, which then runs beside others of other threads; kept on disk."""
    made: Any = njit(nogil=True, cache=True, error_model="numpy")(function)
    return cast("_Function", made)


_BANDS_PER_THREAD = 4
_ROWS_PER_BAND = 256  # at most, so that a band's own memory does not grow with the image
_WORTH_THREADS = 1 << 17


def in_bands(rows: int, amount: int, work: Callable[[int, int], object], threads: int) -> None:
    """Call ``work(first, last)`` for bands of rows, side by side.

    Args:
        rows: how many there are.
        amount: of numbers that are worked out; for a few, other threads are not worth waking.
        work: is done with the rows first <= i < last when it returns.
        threads: how many bands at a time.
    """
    threads = threads if amount > _WORTH_THREADS else 1
    count = max(threads * _BANDS_PER_THREAD if threads > 1 else 1, -(-rows // _ROWS_PER_BAND))
    edges = np.linspace(0, rows, min(rows, count) + 1).round().astype(int).tolist()
    if threads == 1:
        for band in pairwise(edges):
            work(*band)
        return
    in_threads([partial(work, *band) for band in pairwise(edges)], threads)


def in_threads(jobs: Sequence[Callable[[], object]], threads: int) -> None:
    """Do jobs side by side, in so many threads."""
    for future in [_pool(threads).submit(job) for job in jobs]:
        future.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="bands")


# A forked process has none of its parent's threads, and would wait for them for ever.
os.register_at_fork(after_in_child=_pool.cache_clear)
