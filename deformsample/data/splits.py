"""How a data set without official splits is divided."""

from __future__ import annotations

import csv
import io
import random
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import get_args

from deformsample.data.dataset import Split
from deformsample.errors import ArgumentError, DataError
from deformsample.reading import read_text

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


def csv_rows(file: Path, what: str) -> list[list[str]]:
    """The rows of a CSV file.

    Raises:
        DataError: not a file, no text, or no CSV.
    """
    try:
        return list(csv.reader(io.StringIO(read_text(file, what), newline="")))
    except csv.Error as error:
        raise DataError(f"Expected {what}, but {file} is no CSV: {error}.") from None


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
