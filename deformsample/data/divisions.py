"""Ways to divide labelled images into train, val and test."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from deformsample.data.splits import group, seeded_split, split_from_file
from deformsample.errors import ArgumentError
from deformsample.shipped import own_or_shipped


class Division(ABC):
    """Which images are in which split, by their names."""

    @abstractmethod
    def divide(self, names: Sequence[str], root: Path) -> dict[str, str]:
        """Split by name; what is in no split is left out.

        Args:
            names: of the images: paths below the root without extension, such as ``cat/0012``.
            root: folder of the data.
        """


class Shares(Division):
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
        """See :class:`Division`."""
        return seeded_split(
            names, shares=self.shares, group_pattern=self.group_pattern, seed=self.seed
        )


class SplitFile(Division):
    """As a file says.

    Args:
        file: CSV of name or glob, and split, where the first row that fits counts; relative to the
            root, or else to the folder of the shipped configs.
    """

    def __init__(self, file: str) -> None:
        self.file = file

    def divide(self, names: Sequence[str], root: Path) -> dict[str, str]:
        """See :class:`Division`."""
        return split_from_file(names, own_or_shipped(root, self.file))


class Folds(Division):
    """Cross-validation: one fold is tested, the next one chooses the best epoch, the others train.

    Groups go to the folds in their order, one by one, so the folds are as even as can be.

    Args:
        count: how many folds there are, at least 3.
        fold: which one is tested, from 0.
        group_pattern: as of :class:`Shares`.
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
        """See :class:`Division`."""
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
