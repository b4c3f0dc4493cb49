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
_VOLUMES = 8  # kept decoded in each process
_LARGEST_LABEL = 32767
_HUGE = 1e30  # no brightness; beyond it, differences overflow


@dataclass(frozen=True)
class Slice(SegmentationSample):
    """One slice of a volume."""

    number: int = 0


class Nifti(SegmentationDataset):
    """Axial slices of volumes as grey images; the slices of a patient are in one split.

    Two layouts are known: a folder for each patient (BraTS), anywhere below the root, and
    ``imagesTr`` with ``labelsTr`` of the same file names (Decathlon), where an image may hold
    several channels. Grey is linear from one percentile of a volume's voxels that are not 0 to
    another, so that volumes of different scanners look alike; what is 0, outside of the head, or no
    finite number, is black.

    Args:
        root: folder of the volumes.
        classes: name and colour of every class, in the order of the ids.
        values: the values of label files that are each class; others have no class.
        image: in a patient's folder, the pattern of its image file.
        labels: in a patient's folder, the pattern of its label file.
        channel: of images with four dimensions; FLAIR is the first of the Decathlon's.
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
            Slice(f"{name}_{number:03}", image, labels, number, group=name)
            for name, (image, labels) in patients.items()
            for number in range(_open(image).shape[2])
        ]

    @override
    def read_image(self, sample: SegmentationSample) -> Pixels:
        assert isinstance(sample, Slice)
        grey = _grey(sample.image, self.channel, self.percentiles)[..., sample.number].T
        return np.repeat(grey[..., None], 3, axis=2)

    @override
    def read_labels(self, sample: SegmentationSample) -> Pixels:
        assert isinstance(sample, Slice)
        values = _labels(sample.labels)
        if sample.number >= values.shape[2]:
            raise DataError(
                f"Expected labels for {_open(sample.image).shape[2]} slices of {sample.image}, but "
                f"{sample.labels} has {values.shape[2]}."
            )
        own = values[..., sample.number].T
        ids = np.full(own.shape, IGNORE_INDEX, np.uint8)
        for number, name in enumerate(self.classes):
            ids[np.isin(own, self.values[name])] = number
        return ids

    def _patients(self, root: Path) -> dict[str, tuple[Path, Path]]:
        """Image and labels by patient."""
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
    found: dict[str, tuple[Path, Path]] = {}
    for name, image, labels in volumes:
        if name in found:
            raise DataError(
                f"Expected one volume for each patient, but {found[name][0]} and {image} are both "
                f"{name!r}: remove or rename one."
            )
        found[name] = image, labels
    return found


def _is_volume(file: Path) -> bool:
    return file.name.endswith(_SUFFIXES) and not file.name.startswith(".")


def _only(files: Any, folder: Path, wanted: str) -> Path:
    found = [file for file in files if file.is_file()]
    if len(found) != 1:
        raise DataError(
            f"Expected one file {wanted} with labels in {folder}, but found {len(found)}."
        )
    first: Path = found[0]
    return first


def _open(path: Path) -> Any:
    """A volume of three or four dimensions, of which only the head is read.

    It is what nibabel reads voxels by. Extensions of the head are left alone: what they claim to
    hold has no bound.
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
            raise ValueError("it does not start as one")
        header = kind(head[: kind.sizeof_hdr])
        volume = nibabel.arrayproxy.ArrayProxy(str(path), header)
    except Exception as error:  # bytes of any kind make a reader fail in any way
        raise DataError(f"Expected a NIfTI volume, but {path} cannot be read: {error}") from None
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
    except Exception as error:  # bytes of any kind make a reader fail in any way
        raise DataError(
            f"Expected a whole NIfTI volume, but {path} cannot be decoded ({error}): get it again."
        ) from None
    return np.asarray(data)


@lru_cache(_VOLUMES)
def _grey(path: Path, channel: int, percentiles: tuple[float, float]) -> Pixels:
    with np.errstate(over="ignore", invalid="ignore"):
        voxels = _voxels(path, channel).astype(np.float32)
        known = (voxels != 0) & (np.abs(voxels) < _HUGE)  # false for what is no number
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
    if not (np.abs(whole) <= _LARGEST_LABEL).all():  # false for what is no number
        raise DataError(
            f"Expected labels from {-_LARGEST_LABEL} to {_LARGEST_LABEL}, but {path} holds values "
            "that are larger, or no numbers."
        )
    values: npt.NDArray[np.int16] = whole.astype(np.int16)
    return values
