"""What every data set is: a list of images, and who says in which split they are."""

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
    """Unique in its data set; a splitter goes by it."""

    image: Path
    split: str | None = field(default=None, kw_only=True)
    """Where the data set itself says so; else a splitter does."""

    group: str | None = field(default=None, kw_only=True)
    """What a splitter places as one, such as a patient, by this name; ``None`` for the image."""


S = TypeVar("S", bound=ImageSample)


class ImageDataset(ABC, Generic[S]):
    """A layout of files."""

    root: Path
    """Folder of the data."""

    classes: Collection[str]
    """Names in the order of the ids."""

    @abstractmethod
    def samples(self) -> list[S]:
        """List all images in order, without reading them.

        Raises:
            DataError: a folder or file is missing, or cannot be used.
        """

    def listing(self) -> tuple[list[S], list[str]]:
        """The images that can be listed, and what is wrong with the files of others."""
        try:
            return self.samples(), []
        except DataError as error:
            return [], [str(error)]


def check_folder(folder: Path, what: str) -> Path:
    """Pass a folder on if it exists.

    Raises:
        DataError: naming the folder and the key to set.
    """
    if not folder.is_dir():
        raise DataError(
            f"Expected {what} in the folder {folder}, but there is no such folder: set it with "
            "`--data.root PATH`."
        )
    return folder
