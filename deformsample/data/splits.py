"""Splitting data sets without official splits."""

from __future__ import annotations

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from typing_extensions import override

from deformsample.errors import ArgumentError, DataError
from deformsample.files.configs import own_or_shipped
from deformsample.files.reading import csv_rows

Split: TypeAlias = Literal["train", "val", "test"]

_SPLITS: tuple[str, ...] = get_args(Split)


class Splitter(ABC):
    """Assigns images to splits by their names."""

    @abstractmethod
    def split(self, names: Sequence[str], root: Path) -> dict[str, str]:
        """The split of each name; names in no split are left out.

        Args:
            names: names of images: file names without extension, or paths below the root such as
                ``cat/0012``. For images that stay together, such as the slices of a patient, the
                name of the group.
            root: folder of the data.

        Raises:
            ArgumentError: the splitter does not fit the names.
            DataError: a required file is missing or invalid.
        """


class RandomSplit(Splitter):
    """A random split that depends only on names and seed.

    Args:
        shares: shares of train, val and test, in groups; they sum to 1.
        group_pattern: regular expression for names that stay together, such as those of a patient.
            Names with equal matches (of the first bracket, if any) are one group. ``None`` makes
            every name a group.
        seed: seed of the shuffle.

    Example:
        >>> names = [f"patient{n // 2}_{n}" for n in range(8)]
        >>> splitter = RandomSplit((0.5, 0.25, 0.25), group_pattern="^patient[0-9]+")
        >>> split = splitter.split(names, Path())
        >>> split["patient0_0"] == split["patient0_1"], sorted(set(split.values()))
        (True, ['test', 'train', 'val'])
    """

    def __init__(
        self,
        shares: tuple[float, float, float] = (0.7, 0.15, 0.15),
        group_pattern: str | None = None,
        seed: int = 0,
    ) -> None:
        if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
            raise ArgumentError(
                f"Expected `shares` to be non-negative with sum 1, but got {list(shares)}."
            )
        self.shares = shares
        self.group_pattern = group_pattern
        self.seed = seed

    @override
    def split(self, names: Sequence[str], root: Path) -> dict[str, str]:
        group_of = _groups(names, self.group_pattern)
        groups = sorted(set(group_of.values()))
        random.Random(self.seed).shuffle(groups)
        first = round(len(groups) * self.shares[0])
        second = round(len(groups) * (self.shares[0] + self.shares[1]))
        split_of = {
            group: _SPLITS[(index >= first) + (index >= second)]
            for index, group in enumerate(groups)
        }
        return {name: split_of[group] for name, group in group_of.items()}


class SplitFile(Splitter):
    """A split from a CSV file of two columns: a name or a glob, and its split.

    The first matching row counts. Names without a matching row are in no split. Lines that start
    with # are skipped.

    Args:
        file: CSV with rows such as ``a_0012,train`` or ``b_*,val``; relative to the root, or to the
            shipped configs.
    """

    def __init__(self, file: str) -> None:
        self.file = file

    @override
    def split(self, names: Sequence[str], root: Path) -> dict[str, str]:
        file = own_or_shipped(root, self.file)
        rows = _split_rows(file)
        known = set(names)
        for pattern, _ in rows:  # a glob may match nothing
            if not set(pattern) & set("*?[") and pattern not in known:
                raise DataError(f"Expected an image for {pattern!r} of {file}, but there is none.")
        first = {
            name: next((split for pattern, split in rows if fnmatchcase(name, pattern)), None)
            for name in names
        }
        return {name: split for name, split in first.items() if split is not None}


class KFold(Splitter):
    """Cross-validation: one fold is for test, the next one for validation, the others for training.

    Sorted groups are dealt to the folds in turn.

    Args:
        count: number of folds, at least 3.
        fold: index of the test fold, from 0.
        group_pattern: as in :class:`RandomSplit`.

    Example:
        >>> KFold(count=3, fold=0).split(["a", "b", "c"], Path())
        {'a': 'test', 'b': 'val', 'c': 'train'}
    """

    def __init__(self, count: int = 5, fold: int = 0, group_pattern: str | None = None) -> None:
        if count < 3 or not 0 <= fold < count:
            raise ArgumentError(
                f"Expected `count` of at least 3 folds and `fold` from 0 to {max(count, 1) - 1}, "
                f"but got {count} and {fold}."
            )
        self.count = count
        self.fold = fold
        self.group_pattern = group_pattern

    @override
    def split(self, names: Sequence[str], root: Path) -> dict[str, str]:
        group_of = _groups(names, self.group_pattern)
        groups = sorted(set(group_of.values()))
        if len(groups) < self.count:
            raise ArgumentError(
                f"Expected at least {self.count} groups of images for {self.count} folds, but got "
                f"{len(groups)}: set a smaller `count` or another `group_pattern`."
            )
        special = {self.fold: "test", (self.fold + 1) % self.count: "val"}
        split_of = {
            group: special.get(index % self.count, "train") for index, group in enumerate(groups)
        }
        return {name: split_of[group] for name, group in group_of.items()}


def _split_rows(file: Path) -> list[tuple[str, str]]:
    """The rows of a split file: name or glob, and split."""
    rows = []
    for line, row in enumerate(csv_rows(file, "a split file"), start=1):
        if not row or row[0].startswith("#"):
            continue
        if len(row) != 2 or row[1].strip() not in _SPLITS:
            raise DataError(
                f"Expected 'name,split' with a split of {', '.join(_SPLITS)}, but line "
                f"{line} of {file} is {','.join(row)[:200]!r}."
            )
        rows.append((row[0].strip(), row[1].strip()))
    return rows


def _groups(names: Sequence[str], pattern: str | None) -> dict[str, str]:
    """The group of each name."""
    if pattern is None:
        return {name: name for name in names}
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ArgumentError(
            f"Expected `group_pattern` to be a regular expression, but got {pattern!r}: {error}."
        ) from None
    group_of = {}
    for name in names:
        match = compiled.search(name)
        if match is None:
            raise ArgumentError(
                f"Expected `group_pattern` {pattern!r} to match every name, but it does not match "
                f"{name!r}."
            )
        group_of[name] = match.group(1) if compiled.groups else match.group(0)
    return group_of
