"""Slices of NIfTI volumes, such as those of BraTS and of the Medical Segmentation Decathlon."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from deformsample.data.dataset import Sample, SegmentationDataset, Split, check_folder
from deformsample.data.images import Pixels
from deformsample.data.labels import Colour
from deformsample.data.splits import seeded_split
from deformsample.errors import ArgumentError, DataError
from deformsample.losses import IGNORE_INDEX

_SUFFIXES = (".nii", ".nii.gz")
_VOLUMES = 8  # kept decoded in each process


@dataclass(frozen=True)
class Slice(Sample):
    """One slice of a volume."""

    number: int = 0


class Nifti(SegmentationDataset):
    """Axial slices of volumes as grey images, split by patient.

    Two layouts are known: a folder for each patient (BraTS), anywhere below the root, and
    ``imagesTr`` with ``labelsTr`` of the same file names (Decathlon), where an image may hold
    several channels. Grey is linear from one percentile of a volume's voxels that are not 0 to
    another, so that volumes of different scanners look alike; what is 0, outside of the head, is
    black.

    Args:
        root: folder of the volumes.
        classes: name and colour of every class, in the order of the ids.
        values: the values of label files that are each class; others have no class.
        image: in a patient's folder, the pattern of its image file.
        labels: in a patient's folder, the pattern of its label file.
        channel: of images with four dimensions; FLAIR is the first of the Decathlon's.
        percentiles: black and white, from 0 to 100.
        shares: of train, val and test, in patients.
        seed: of the division.
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
        shares: tuple[float, float, float] = (0.7, 0.15, 0.15),
        seed: int = 0,
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
        self.shares = shares
        self.seed = seed

    def samples(self, split: Split) -> list[Sample]:
        """See :class:`SegmentationDataset`."""
        patients = self._patients(check_folder(self.root, "NIfTI volumes"))
        division = seeded_split(
            list(patients), shares=self.shares, group_pattern=None, seed=self.seed
        )
        return [
            Slice(f"{name}_{number:03}", image, labels, number)
            for name, (image, labels) in patients.items()
            if division[name] == split
            for number in range(_open(image).shape[2])
        ]

    def read_image(self, sample: Sample) -> Pixels:
        """See :class:`SegmentationDataset`."""
        assert isinstance(sample, Slice)
        grey = _grey(sample.image, self.channel, self.percentiles)[..., sample.number].T
        return np.repeat(grey[..., None], 3, axis=2)

    def read_labels(self, sample: Sample) -> Pixels:
        """See :class:`SegmentationDataset`."""
        assert isinstance(sample, Slice)
        assert sample.labels is not None
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
            files = [f for f in (root / "imagesTr").iterdir() if _is_volume(f)]
            return {
                file.name.split(".")[0]: (file, _only([labels / file.name], labels, file.name))
                for file in sorted(files)
            }
        images = sorted(file for file in root.rglob(self.image) if _is_volume(file))
        if not images:
            raise DataError(
                f"Expected volumes {self.image} in folders below {root}, or {root / 'imagesTr'}, "
                "but found none: set `--data.root` and `--data.dataset.image`."
            )
        return {
            file.parent.name: (file, _only(file.parent.glob(self.labels), file.parent, self.labels))
            for file in images
        }


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
    """A volume of three or four dimensions, of which only the head is read."""
    try:
        import nibabel
    except ImportError:
        raise DataError(
            f"Expected nibabel to read {path}: install it with "
            "`pip install 'deformsample[volumes]'`."
        ) from None
    try:
        volume: Any = nibabel.load(path)
    except (OSError, nibabel.filebasedimages.ImageFileError) as error:
        raise DataError(f"Expected a NIfTI volume, but {path} cannot be read: {error}") from None
    if len(volume.shape) not in (3, 4):
        raise DataError(
            f"Expected a volume of 3 dimensions, or 4 with channels last, but {path} has the shape "
            f"{volume.shape}."
        )
    return volume


def _voxels(path: Path, channel: int) -> npt.NDArray[Any]:
    volume = _open(path)
    if len(volume.shape) == 4 and channel >= volume.shape[3]:
        raise DataError(
            f"Expected channel {channel} in {path}, but it has {volume.shape[3]}: set "
            "`--data.dataset.channel`."
        )
    try:
        data = volume.dataobj[..., channel] if len(volume.shape) == 4 else volume.dataobj[...]
    except (OSError, EOFError, ValueError) as error:
        raise DataError(
            f"Expected a whole NIfTI volume, but {path} cannot be decoded ({error}): get it again."
        ) from None
    return np.asarray(data)


@lru_cache(_VOLUMES)
def _grey(path: Path, channel: int, percentiles: tuple[float, float]) -> Pixels:
    voxels = _voxels(path, channel).astype(np.float32)
    known = voxels[voxels != 0]
    if not known.size:
        return np.zeros(voxels.shape, np.uint8)
    black, white = np.percentile(known, percentiles)
    grey = (voxels - black) / max(float(white - black), np.finfo(np.float32).tiny)
    return np.where(voxels == 0, 0, np.rint(grey.clip(0, 1) * 255)).astype(np.uint8)


@lru_cache(_VOLUMES)
def _labels(path: Path) -> npt.NDArray[np.int16]:
    voxels = _voxels(path, 0)
    values: npt.NDArray[np.int16] = np.rint(voxels).astype(np.int16)
    return values
