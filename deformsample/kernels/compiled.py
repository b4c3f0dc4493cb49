"""Compiling functions for the CPU and running them in threads."""

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
    """Compile a function without the GIL; the result is cached on disk."""
    made: Any = njit(nogil=True, cache=True, error_model="numpy")(function)
    return cast("_Function", made)


_BANDS_PER_THREAD = 4
_ROWS_PER_BAND = 256  # maximum, so that the memory of a band does not grow with the image
_WORTH_THREADS = 1 << 17


def in_bands(rows: int, amount: int, work: Callable[[int, int], object], threads: int) -> None:
    """Call ``work(first, last)`` for bands of rows in parallel.

    Args:
        rows: number of rows.
        amount: number of results; small amounts are computed in one thread.
        work: computes the rows first <= i < last.
        threads: number of parallel bands.
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
    """Run jobs in parallel threads."""
    for future in [_pool(threads).submit(job) for job in jobs]:
        future.result()


@cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="bands")


# A forked process has no threads of its parent, and would wait for them forever.
os.register_at_fork(after_in_child=_pool.cache_clear)
