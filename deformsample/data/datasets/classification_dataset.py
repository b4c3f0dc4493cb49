"""Images with a label each: a class, or a score."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from typing_extensions import override

from deformsample.data.datasets.image_dataset import ImageDataset, ImageSample, check_folder
from deformsample.data.splits import Split
from deformsample.errors import ArgumentError, DataError, listed
from deformsample.files.configs import own_or_shipped
from deformsample.files.images import IMAGE_SUFFIXES
from deformsample.files.reading import csv_rows, files_in
from deformsample.files.slides import SLIDE_SUFFIXES


@dataclass(frozen=True)
class ClassificationSample(ImageSample):
    """One image and its label. Its name is its path below the root, without extension."""

    label: float
    """The number of its class, or its score."""


class ClassificationDataset(ImageDataset[ClassificationSample]):
    """Files with a label each."""

    classes: Sequence[str]
    """Names in the order of their numbers; none where labels are scores."""


class ImageFolder(ClassificationDataset):
    """One folder for each class, which holds its images: ``root/CLASS/NAME.*``.

    Images may be in any format that is read, slides included.

    Args:
        root: folder of the classes' folders.
        classes: their names, in this order; ``None`` for all folders, by name.
    """

    def __init__(self, root: str | None, classes: list[str] | None = None) -> None:
        self.root = check_folder(Path(root or "data/classes").expanduser(), "a folder per class")
        folders = [x.name for x in files_in(self.root) if x.is_dir()]
        self.classes = _checked(classes or sorted(folders), self.root)
        if missing := sorted(set(self.classes) - set(folders)):
            raise DataError(f"Expected a folder for each class in {self.root}, but not: {missing}.")

    @override
    def samples(self) -> list[ClassificationSample]:
        return _unique(
            ClassificationSample(_name(file, self.root), file, number)
            for number, name in enumerate(self.classes)
            for file in files_in(self.root / name)
            if _is_image(file)
        )


class CsvDataset(ClassificationDataset):
    """Images and labels as a CSV file lists them.

    Its first row names the columns: ``path``, ``label`` and, if the data set is divided already,
    ``split`` (train, val or test). A path is relative to the root, and may be a glob, which stands
    for all images that fit: ``images/*_h.*``.

    Args:
        root: folder of the images.
        file: the CSV; relative to the root, or else to the folder of the shipped configs.
        label: what the labels are: the name of a ``class``, or a ``score``, which is a number.
        classes: their names, in this order; ``None`` for all that occur, by name.
    """

    def __init__(
        self,
        root: str | None,
        file: str = "labels.csv",
        label: Literal["class", "score"] = "class",
        classes: list[str] | None = None,
    ) -> None:
        self.root = check_folder(Path(root or "data/labelled").expanduser(), "labelled images")
        self.file = own_or_shipped(self.root, file)
        self.rows = list(_rows(self.file))
        self.label = label
        found = sorted({row["label"] for row in self.rows})
        self.classes = [] if label == "score" else _checked(classes or found, self.file)

    @override
    def samples(self) -> list[ClassificationSample]:
        return _unique(
            ClassificationSample(
                _name(file, self.root), file, self._number(row), split=row.get("split")
            )
            for row in self.rows
            for file in self._files(row["path"])
        )

    def _files(self, path: str) -> list[Path]:
        own = self.root / path
        if own.is_file():  # whatever its name holds
            return [own]
        found = self._globbed(path) if _is_glob(path) else []
        if not found:
            raise DataError(
                f"Expected an image for {path!r} of {self.file} in {self.root}, but there is none."
            )
        return found

    def _globbed(self, pattern: str) -> list[Path]:
        try:
            return sorted(x for x in self.root.glob(pattern) if _is_image(x))
        except (ValueError, OSError, NotImplementedError) as error:
            raise DataError(
                f"Expected a glob in {self.file}, but got {pattern!r}: {error}."
            ) from None

    def _number(self, row: dict[str, str]) -> float:
        if self.classes:
            if row["label"] not in self.classes:
                raise DataError(
                    f"Expected a class of {list(self.classes)}, but {self.file} says "
                    f"{row['label']!r} of {row['path']!r}."
                )
            return self.classes.index(row["label"])
        try:
            score = float(row["label"])
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise DataError(
                f"Expected a score, which is a number, but {self.file} says {row['label']!r} of "
                f"{row['path']!r}: for names of classes, set `data.dataset.label` to class."
            )
        return score


def _rows(file: Path) -> Iterator[dict[str, str]]:
    rows = csv_rows(file, "a file of paths and labels")
    columns = rows[0] if rows else []
    if not {"path", "label"} <= set(columns) or len(set(columns)) < len(columns):
        raise DataError(
            "Expected the columns path and label, and perhaps split, in the first row of "
            f"{file}, each once, but got {columns[:5]}."
        )
    for number, cells in enumerate(rows[1:], start=2):
        if not cells:
            continue
        row = dict(zip(columns, (cell.strip() for cell in cells), strict=False))
        given = {key: row.get(key, "") for key in ("path", "label")}
        split = row.get("split", "")
        known = split in ("", *get_args(Split)) and len(cells) <= len(columns)
        if not all(given.values()) or not known:
            raise DataError(
                "Expected a path, a label, and a split of train, val or test or none, but row "
                f"{number} of {file} has {given['path']!r}, {given['label']!r} and {split!r}."
            )
        yield given | ({"split": split} if split else {})


def _checked(classes: list[str], where: Path) -> list[str]:
    if len(set(classes)) < 2 or len(set(classes)) < len(classes):
        raise ArgumentError(
            f"Expected at least 2 different classes for {where}, but got {listed(classes)}."
        )
    return classes


def _unique(samples: Iterable[ClassificationSample]) -> list[ClassificationSample]:
    found: dict[str, ClassificationSample] = {}
    for sample in samples:
        if sample.name in found:
            raise DataError(
                f"Expected every image once, and names that differ, but {found[sample.name].image} "
                f"and {sample.image} are both {sample.name!r}: remove or rename one."
            )
        found[sample.name] = sample
    return list(found.values())


def _name(file: Path, root: Path) -> str:
    inside = file.relative_to(root) if file.is_relative_to(root) else file
    return inside.with_suffix("").as_posix()


def _is_image(file: Path) -> bool:
    readable = file.suffix.lower() in IMAGE_SUFFIXES | SLIDE_SUFFIXES
    return readable and not file.name.startswith(".")


def _is_glob(path: str) -> bool:
    return bool(set(path) & set("*?[")) and not Path(path).is_absolute()
