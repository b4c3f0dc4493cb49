"""How a data set without official splits is divided."""

from __future__ import annotations

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal, TypeAlias, get_args

from deformsample.errors import ArgumentError, DataError
from deformsample.files.configs import own_or_shipped
from deformsample.files.reading import csv_rows

Split: TypeAlias = Literal["train", "val", "test"]

_SPLITS: tuple[str, ...] = get_args(Split)


def seeded_split(
    stems: Sequence[str],
    *,
    shares: tuple[float, float, float],
    group_pattern: str | None,
    seed: int,
) -> dict[str, str]:
    """Divide stems at random, never inside a group; the same for the same stems and seed.

    Args:
        stems: file names without extension.
        shares: of train, val and test, in groups; they sum to 1.
        group_pattern: regular expression; stems with the same match (of its first bracket, if it
            has one) are one group. ``None`` makes every stem a group of its own.
        seed: of the shuffle.

    Returns:
        Split name by stem.

    Raises:
        ArgumentError: shares that do not sum to 1, or a stem that the pattern does not match.
    """
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-6:
        raise ArgumentError(f"Expected `shares` of sum 1, none negative, but got {list(shares)}.")
    group_of = {stem: group(stem, group_pattern) for stem in stems}
    groups = sorted(set(group_of.values()))
    random.Random(seed).shuffle(groups)
    first = round(len(groups) * shares[0])
    second = round(len(groups) * (shares[0] + shares[1]))
    name_of = {
        group: _SPLITS[(number >= first) + (number >= second)]
        for number, group in enumerate(groups)
    }
    return {stem: name_of[group] for stem, group in group_of.items()}


def split_from_file(stems: Sequence[str], file: Path) -> dict[str, str]:
    """Read a division from a CSV file of two columns: a stem or a glob, and its split.

    The first row that fits a stem counts. Stems that no row fits are in no split.

    Args:
        stems: file names without extension.
        file: rows such as ``a_0012,train`` or ``b_*,val``; lines that start with # are skipped.

    Returns:
        Split name by stem.

    Raises:
        DataError: no such file, a row of another form, or a stem that does not exist. (A glob may
            fit nothing.)
    """
    rows: list[tuple[str, str]] = []
    for number, row in enumerate(csv_rows(file, "a split file"), start=1):
        if not row or row[0].startswith("#"):
            continue
        if len(row) != 2 or row[1].strip() not in _SPLITS:
            raise DataError(
                f"Expected 'stem,split' with a split of {', '.join(_SPLITS)}, but line "
                f"{number} of {file} is {','.join(row)[:200]!r}."
            )
        rows.append((row[0].strip(), row[1].strip()))
    known = set(stems)
    for pattern, _ in rows:
        if not set(pattern) & set("*?[") and pattern not in known:
            raise DataError(f"Expected an image for {pattern!r} of {file}, but there is none.")
    division = {}
    for stem in stems:
        name = next((name for pattern, name in rows if fnmatchcase(stem, pattern)), None)
        if name is not None:
            division[stem] = name
    return division


def group(stem: str, pattern: str | None) -> str:
    """What a stem is divided with, by a pattern as of :func:`seeded_split`."""
    if pattern is None:
        return stem
    try:
        match = re.search(pattern, stem)
    except re.error as error:
        raise ArgumentError(
            f"Expected `group_pattern` to be a regular expression, but {pattern!r} is none: "
            f"{error}."
        ) from None
    if match is None:
        raise ArgumentError(
            f"Expected `group_pattern` {pattern!r} to match every file name, but it does not "
            f"match {stem!r}."
        )
    return match.group(1) if match.re.groups else match.group(0)


class Splitter(ABC):
    """Which images are in which split, by their names."""

    @abstractmethod
    def divide(self, names: Sequence[str], root: Path) -> dict[str, str]:
        """Split by name; what is in no split is left out.

        Args:
            names: of the images: paths below the root without extension, such as ``cat/0012``.
            root: folder of the data.
        """


class RandomSplit(Splitter):
    """At random, the same for the same names and seed.

    Args:
        shares: of train, val and test.
        group_pattern: regular expression for what must stay together, such as the patient in a
            name; ``None`` divides image by image.
        seed: of the division.
    """

    def __init__(
        self,
        shares: tuple[float, float, float] = (0.7, 0.15, 0.15),
        group_pattern: str | None = None,
        seed: int = 0,
    ) -> None:
        self.shares = shares
        self.group_pattern = group_pattern
        self.seed = seed

    def divide(self, names: Sequence[str], root: Path) -> dict[str, str]:
        """See :class:`Splitter`."""
        return seeded_split(
            names, shares=self.shares, group_pattern=self.group_pattern, seed=self.seed
        )


class SplitFile(Splitter):
    """As a file says.

    Args:
        file: CSV of name or glob, and split, where the first row that fits counts; relative to the
            root, or else to the folder of the shipped configs.
    """

    def __init__(self, file: str) -> None:
        self.file = file

    def divide(self, names: Sequence[str], root: Path) -> dict[str, str]:
        """See :class:`Splitter`."""
        return split_from_file(names, own_or_shipped(root, self.file))


class KFold(Splitter):
    """Cross-validation: one fold is tested, the next one chooses the best epoch, the others train.

    Groups go to the folds in their order, one by one, so the folds are as even as can be.

    Args:
        count: how many folds there are, at least 3.
        fold: which one is tested, from 0.
        group_pattern: as of :class:`RandomSplit`.
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

    def divide(self, names: Sequence[str], root: Path) -> dict[str, str]:
        """See :class:`Splitter`."""
        group_of = {name: group(name, self.group_pattern) for name in names}
        groups = sorted(set(group_of.values()))
        if len(groups) < self.count:
            raise ArgumentError(
                f"Expected at least {self.count} groups of images for as many folds, but got "
                f"{len(groups)}: set a smaller `count` or another `group_pattern`."
            )
        special = {self.fold: "test", (self.fold + 1) % self.count: "val"}
        split_of = {own: special.get(n % self.count, "train") for n, own in enumerate(groups)}
        return {name: split_of[own] for name, own in group_of.items()}
