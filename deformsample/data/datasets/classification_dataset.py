"""Images with one label each: a class, or a score."""

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
    """Class id, or score."""


class ClassificationDataset(ImageDataset[ClassificationSample]):
    """Images with one label each."""

    classes: Sequence[str]
    """Names in the order of the ids; empty if labels are scores."""


class ImageFolder(ClassificationDataset):
    """One folder of images per class: ``root/CLASS/NAME.*``.

    Images can be in any supported format, including slides.

    Args:
        root: folder of the class folders.
        classes: names of the classes in order; ``None`` for all folders, sorted by name.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as root:
        ...     for name in ("healthy", "ill"):
        ...         Path(root, name).mkdir()
        ...         Path(root, name, "a.png").touch()
        ...     [(sample.name, sample.label) for sample in ImageFolder(root).samples()]
        [('healthy/a', 0), ('ill/a', 1)]
    """

    def __init__(self, root: str | None, classes: list[str] | None = None) -> None:
        self.root = check_folder(Path(root or "data/classes").expanduser(), "a folder per class")
        folders = [x.name for x in files_in(self.root) if x.is_dir()]
        self.classes = _checked(classes or sorted(folders), self.root)
        if missing := sorted(set(self.classes) - set(folders)):
            raise DataError(
                f"Expected a folder per class in {self.root}, but got none for {missing}."
            )

    @override
    def samples(self) -> list[ClassificationSample]:
        return _unique(
            ClassificationSample(_name(file, self.root), file, class_id)
            for class_id, name in enumerate(self.classes)
            for file in files_in(self.root / name)
            if _is_image(file)
        )


class CsvDataset(ClassificationDataset):
    """Images and labels listed in a CSV file.

    The first row names the columns: ``path``, ``label`` and optionally ``split`` (train, val or
    test). A path is relative to the root, or a glob for all matching images: ``images/*_h.*``.

    Args:
        root: folder of the images.
        file: the CSV file; relative to the root, or to the shipped configs.
        label: type of the labels: names of a ``class``, or a ``score`` (a number).
        classes: names of the classes in order; ``None`` for all that occur, sorted by name.
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
        names = sorted({row["label"] for row in self.rows})
        self.classes = [] if label == "score" else _checked(classes or names, self.file)

    @override
    def samples(self) -> list[ClassificationSample]:
        return _unique(
            ClassificationSample(
                _name(file, self.root), file, self._label(row), split=row.get("split")
            )
            for row in self.rows
            for file in self._files(row["path"])
        )

    def _files(self, path: str) -> list[Path]:
        named = self.root / path
        if named.is_file():  # its name can contain glob characters
            return [named]
        files = self._globbed(path) if _is_glob(path) else []
        if not files:
            raise DataError(
                f"Expected an image for {path!r} of {self.file} in {self.root}, but there is none."
            )
        return files

    def _globbed(self, pattern: str) -> list[Path]:
        try:
            return sorted(x for x in self.root.glob(pattern) if _is_image(x))
        except (ValueError, OSError, NotImplementedError) as error:
            raise DataError(
                f"Expected a glob in {self.file}, but got {pattern!r}: {error}."
            ) from None

    def _label(self, row: dict[str, str]) -> float:
        if self.classes:
            if row["label"] not in self.classes:
                raise DataError(
                    f"Expected a class of {list(self.classes)}, but {self.file} has "
                    f"{row['label']!r} for {row['path']!r}."
                )
            return self.classes.index(row["label"])
        try:
            score = float(row["label"])
        except ValueError:
            score = math.nan
        if not math.isfinite(score):
            raise DataError(
                f"Expected a finite score, but {self.file} has {row['label']!r} for "
                f"{row['path']!r}: for names of classes, set `data.dataset.label` to class."
            )
        return score


def _rows(file: Path) -> Iterator[dict[str, str]]:
    rows = csv_rows(file, "a file of paths and labels")
    columns = rows[0] if rows else []
    if not {"path", "label"} <= set(columns) or len(set(columns)) < len(columns):
        raise DataError(
            "Expected the columns path and label, and optionally split, in the first row of "
            f"{file}, without duplicates, but got {columns[:5]}."
        )
    for line, cells in enumerate(rows[1:], start=2):
        if not cells:
            continue
        row = dict(zip(columns, (cell.strip() for cell in cells), strict=False))
        given = {key: row.get(key, "") for key in ("path", "label")}
        split = row.get("split", "")
        known = split in ("", *get_args(Split)) and len(cells) <= len(columns)
        if not all(given.values()) or not known:
            raise DataError(
                "Expected a path, a label, and a split of train, val or test or none, but row "
                f"{line} of {file} has {given['path']!r}, {given['label']!r} and {split!r}."
            )
        yield given | ({"split": split} if split else {})


def _checked(classes: list[str], where: Path) -> list[str]:
    if len(set(classes)) < 2 or len(set(classes)) < len(classes):
        raise ArgumentError(
            f"Expected at least 2 different classes for {where}, but got {listed(classes)}."
        )
    return classes


def _unique(samples: Iterable[ClassificationSample]) -> list[ClassificationSample]:
    unique: dict[str, ClassificationSample] = {}
    for sample in samples:
        if sample.name in unique:
            raise DataError(
                f"Expected unique names, but {unique[sample.name].image} and {sample.image} are "
                f"both {sample.name!r}: remove or rename one."
            )
        unique[sample.name] = sample
    return list(unique.values())


def _name(file: Path, root: Path) -> str:
    inside = file.relative_to(root) if file.is_relative_to(root) else file
    return inside.with_suffix("").as_posix()


def _is_image(file: Path) -> bool:
    readable = file.suffix.lower() in IMAGE_SUFFIXES | SLIDE_SUFFIXES
    return readable and not file.name.startswith(".")


def _is_glob(path: str) -> bool:
    return bool(set(path) & set("*?[")) and not Path(path).is_absolute()
