"""Slices of NIfTI volumes, such as those of BraTS and of the Medical Segmentation Decathlon."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from typing_extensions import override

from deformsample.conventions import IGNORE_INDEX, Colour, Pixels
from deformsample.data.datasets.image_dataset import check_folder
from deformsample.data.datasets.segmentation_dataset import SegmentationDataset, SegmentationSample
from deformsample.errors import ArgumentError, DataError
from deformsample.files.limits import check_volume
from deformsample.files.reading import files_in, regular_file

_SUFFIXES = (".nii", ".nii.gz")
_VOLUMES = 8  # number of decoded volumes per process
_LARGEST_LABEL = 32767
_HUGE = 1e30  # larger values are invalid; their differences overflow


@dataclass(frozen=True)
class Slice(SegmentationSample):
    """One slice of a volume."""

    index: int = 0


class Nifti(SegmentationDataset):
    """Axial slices of volumes as grey images; the slices of a patient are in one split.

    Two layouts are supported: a folder per patient (BraTS), anywhere below the root, and
    ``imagesTr`` with ``labelsTr`` of the same file names (Decathlon), where images can have several
    channels. Grey values are linear between two percentiles of the non-zero voxels of a volume,
    which normalises scanners. Zero and non-finite voxels are black.

    Args:
        root: folder of the volumes.
        classes: name and colour of every class, in the order of the ids.
        values: values of label files for each class; other values have no class.
        image: pattern of the image file in the folder of a patient.
        labels: pattern of the label file in the folder of a patient.
        channel: channel of images with four dimensions; 0 is FLAIR in the Decathlon.
        percentiles: black and white, from 0 to 100.
    """

    def __init__(
        self,
        root: str | None,
        classes: Mapping[str, Colour],
        values: Mapping[str, Sequence[int]],
        image: str = "*_flair.nii*",
        labels: str = "*_seg.nii*",
        channel: int = 0,
        percentiles: tuple[float, float] = (0.5, 99.5),
    ) -> None:
        if set(values) != set(classes) or len(classes) < 2:
            raise ArgumentError(
                "Expected `values` for each of at least 2 `classes`, but got values for "
                f"{list(values)} and the classes {list(classes)}."
            )
        if not 0 <= percentiles[0] < percentiles[1] <= 100:
            raise ArgumentError(
                f"Expected `percentiles` from 0 to 100, ascending, but got {list(percentiles)}."
            )
        self.root = Path(root or "data/brats").expanduser()
        self.classes = classes
        self.values = values
        self.image = image
        self.labels = labels
        self.channel = channel
        self.percentiles = percentiles

    @override
    def samples(self) -> list[SegmentationSample]:
        patients = self._patients(check_folder(self.root, "NIfTI volumes"))
        return [
            Slice(f"{name}_{index:03}", image, labels, index, group=name)
            for name, (image, labels) in patients.items()
            for index in range(_open(image).shape[2])
        ]

    @override
    def read_image(self, sample: SegmentationSample) -> Pixels:
        assert isinstance(sample, Slice)
        grey = _grey(sample.image, self.channel, self.percentiles)[..., sample.index].T
        return np.repeat(grey[..., None], 3, axis=2)

    @override
    def read_labels(self, sample: SegmentationSample) -> Pixels:
        assert isinstance(sample, Slice)
        values = _labels(sample.labels)
        if sample.index >= values.shape[2]:
            raise DataError(
                f"Expected labels for {_open(sample.image).shape[2]} slices of {sample.image}, but "
                f"{sample.labels} has {values.shape[2]}."
            )
        values = values[..., sample.index].T
        ids = np.full(values.shape, IGNORE_INDEX, np.uint8)
        for class_id, name in enumerate(self.classes):
            ids[np.isin(values, self.values[name])] = class_id
        return ids

    def _patients(self, root: Path) -> dict[str, tuple[Path, Path]]:
        """Image and label file by patient."""
        if (root / "imagesTr").is_dir():
            labels = check_folder(root / "labelsTr", "labels of NIfTI volumes")
            files = [f for f in files_in(root / "imagesTr") if _is_volume(f)]
            return _unique(
                (file.name.split(".")[0], file, _only([labels / file.name], labels, file.name))
                for file in files
            )
        images = sorted(file for file in root.rglob(self.image) if _is_volume(file))
        if not images:
            raise DataError(
                f"Expected volumes {self.image} in folders below {root}, or {root / 'imagesTr'}, "
                "but found none: set `--data.root` and `--data.dataset.image`."
            )
        return _unique(
            (file.parent.name, file, _only(file.parent.glob(self.labels), file.parent, self.labels))
            for file in images
        )


def _unique(volumes: Iterable[tuple[str, Path, Path]]) -> dict[str, tuple[Path, Path]]:
    unique: dict[str, tuple[Path, Path]] = {}
    for name, image, labels in volumes:
        if name in unique:
            raise DataError(
                f"Expected one volume per patient, but {unique[name][0]} and {image} are both "
                f"{name!r}: remove or rename one."
            )
        unique[name] = image, labels
    return unique


def _is_volume(file: Path) -> bool:
    return file.name.endswith(_SUFFIXES) and not file.name.startswith(".")


def _only(files: Any, folder: Path, wanted: str) -> Path:
    matches: list[Path] = [file for file in files if file.is_file()]
    if len(matches) != 1:
        raise DataError(
            f"Expected one file {wanted} with labels in {folder}, but found {len(matches)}."
        )
    return matches[0]


def _open(path: Path) -> Any:
    """A lazy nibabel volume of three or four dimensions; only the header is read.

    Header extensions, whose declared size is unbounded, are not read.
    """
    try:
        import nibabel
    except ImportError:
        raise DataError(
            f"Expected nibabel to read {path}: install it with "
            "`pip install 'deformsample[volumes]'`."
        ) from None
    regular_file(path, "a NIfTI volume")
    try:
        with nibabel.openers.Opener(str(path)) as file:
            head = file.read(nibabel.Nifti2Header.sizeof_hdr)
        kinds: Any = (nibabel.Nifti1Header, nibabel.Nifti2Header)
        kind = next((kind for kind in kinds if kind.may_contain_header(head)), None)
        if kind is None:
            raise ValueError("it has no NIfTI header")
        header = kind(head[: kind.sizeof_hdr])
        volume = nibabel.arrayproxy.ArrayProxy(str(path), header)
    except Exception as error:  # readers raise any exception on invalid bytes
        raise DataError(f"Cannot read the NIfTI volume {path}: {error}") from None
    if len(volume.shape) not in (3, 4) or min(*volume.shape, min(volume.shape[:2]) - 1) < 1:
        raise DataError(
            "Expected a volume of 3 dimensions, or 4 with channels last, whose slices have at "
            f"least 2 x 2 pixels, but {path} has the shape {volume.shape}."
        )
    check_volume(volume, path)
    return volume


def _voxels(path: Path, channel: int) -> npt.NDArray[Any]:
    volume = _open(path)
    channels = volume.shape[3] if len(volume.shape) == 4 else 1
    if len(volume.shape) == 4 and not 0 <= channel < channels:
        raise DataError(
            f"Expected channel {channel} in {path}, but it has {channels}: set "
            "`--data.dataset.channel`."
        )
    try:
        data = volume[..., channel] if len(volume.shape) == 4 else volume[...]
    except Exception as error:  # readers raise any exception on invalid bytes
        raise DataError(
            f"Cannot read the NIfTI volume {path}: {error}. Get the file again."
        ) from None
    return np.asarray(data)


@lru_cache(_VOLUMES)
def _grey(path: Path, channel: int, percentiles: tuple[float, float]) -> Pixels:
    with np.errstate(over="ignore", invalid="ignore"):
        voxels = _voxels(path, channel).astype(np.float32)
        known = (voxels != 0) & (np.abs(voxels) < _HUGE)  # false for NaN
    if not known.any():
        return np.zeros(voxels.shape, np.uint8)
    black, white = (np.float32(value) for value in np.percentile(voxels[known], percentiles))
    voxels[~known] = black
    grey = (voxels - black) / max(white - black, np.finfo(np.float32).tiny)
    return np.where(known, np.rint(grey.clip(0, 1) * 255), 0).astype(np.uint8)


@lru_cache(_VOLUMES)
def _labels(path: Path) -> npt.NDArray[np.int16]:
    voxels = _voxels(path, 0)
    whole = np.rint(voxels)
    if not (np.abs(whole) <= _LARGEST_LABEL).all():  # false for NaN
        raise DataError(
            f"Expected labels from {-_LARGEST_LABEL} to {_LARGEST_LABEL}, but {path} contains "
            "larger or non-finite values."
        )
    values: npt.NDArray[np.int16] = whole.astype(np.int16)
    return values
