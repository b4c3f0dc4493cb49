"""The base of all data sets: a list of images and their splits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from deformsample.errors import DataError


@dataclass(frozen=True)
class ImageSample:
    """One image of a data set."""

    name: str
    """Unique in the data set; used by splitters."""

    image: Path
    split: str | None = field(default=None, kw_only=True)
    """Split according to the data set; ``None`` leaves it to a splitter."""

    group: str | None = field(default=None, kw_only=True)
    """Name of images that stay in one split, such as a patient; ``None`` for the image alone."""


S = TypeVar("S", bound=ImageSample)


class ImageDataset(ABC, Generic[S]):
    """A file layout."""

    root: Path
    """Folder of the data."""

    classes: Collection[str]
    """Names in the order of the ids."""

    @abstractmethod
    def samples(self) -> list[S]:
        """List all images in order, without reading them.

        Raises:
            DataError: a folder or file is missing or invalid.
        """

    def listing(self) -> tuple[list[S], list[str]]:
        """The images that can be listed, and messages about invalid files."""
        try:
            return self.samples(), []
        except DataError as error:
            return [], [str(error)]


def check_folder(folder: Path, what: str) -> Path:
    """Return a folder if it exists.

    Raises:
        DataError: it does not; the message names the folder and the key to set.
    """
    if not folder.is_dir():
        raise DataError(
            f"Expected {what} in the folder {folder}, but there is no such folder: set the folder "
            "of the data with `--data.root PATH`, or `--root PATH` of commands that do not train."
        )
    return folder
