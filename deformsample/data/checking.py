"""Checking a whole data set before training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from deformsample.conventions import IGNORE_INDEX, Pixels, Size
from deformsample.data.datasets.classification_dataset import ClassificationSample
from deformsample.data.datasets.segmentation_dataset import SegmentationDataset, SegmentationSample
from deformsample.errors import DataError
from deformsample.files.levels import read_level

Sample = TypeVar("Sample")


@dataclass(frozen=True)
class Finding:
    """A message about a file."""

    text: str
    fatal: bool
    """Whether it would stop training."""


@dataclass(frozen=True)
class Checked:
    """The check of a sample; only findings for a sample that cannot be read."""

    file: Path
    """The image file."""

    findings: Sequence[Finding]
    size: Size = (0, 0)
    counts: npt.NDArray[np.int64] | None = None
    """(n,) pixels of each id, or images of each class: n is 256 or more."""

    digest: str = ""
    """Hash of the pixels."""


def check_all(
    samples: Sequence[Sample],
    check: Callable[[Sample], Checked],
    jobs: int,
    progress: Callable[[Iterable[Checked]], Iterable[Checked]],
) -> list[Checked]:
    """Check all samples in parallel; results are in order.

    Args:
        samples: samples of a split.
        check: checks one sample.
        jobs: number of parallel checks.
        progress: wraps the results to show progress.
    """
    with ThreadPoolExecutor(jobs) as pool:
        return list(progress(pool.map(check, samples)))


def check_segmentation(dataset: SegmentationDataset, sample: SegmentationSample) -> Checked:
    """Read one image and its labels, as training would."""
    findings: list[Finding] = []
    read: list[Pixels] = []
    for reader in (dataset.read_image, dataset.read_labels):
        try:
            read.append(reader(sample))
        except DataError as error:
            findings.append(Finding(str(error), fatal=True))
    if findings:
        return Checked(sample.image, findings)
    image, labels = read
    if image.shape[:2] != labels.shape:
        text = f"{sample.image} has {_by(image.shape)} pixels, but {sample.labels} has "
        findings.append(Finding(text + f"{_by(labels.shape)}.", fatal=True))
    if (labels == IGNORE_INDEX).all():
        findings.append(Finding(f"{sample.labels} has no pixel with a class.", fatal=False))
    counts = np.bincount(labels.ravel(), minlength=256)
    return _checked(sample.image, image, findings, counts)


def check_classification(level: int, sample: ClassificationSample) -> Checked:
    """Read one image with a class or a score, as training would at that level."""
    try:
        image = read_level(sample.image, level)
    except DataError as error:
        return Checked(sample.image, [Finding(str(error), fatal=True)])
    counts = np.bincount([max(0, int(sample.label))], minlength=256)
    return _checked(sample.image, image, [], counts)


def _checked(
    file: Path, image: Pixels, findings: Sequence[Finding], counts: npt.NDArray[np.int64]
) -> Checked:
    plain = [Finding(f"{file} is of one colour.", fatal=False)]
    findings = [*findings, *(plain if (image == image[0, 0]).all() else [])]
    digest = hashlib.sha256(image.tobytes()).hexdigest()
    return Checked(file, findings, (image.shape[0], image.shape[1]), counts, digest)


def equal_images(checked: Mapping[str, Sequence[Checked]]) -> list[Finding]:
    """Images that occur more than once, within a split or across splits.

    Args:
        checked: checked samples by split.
    """
    seen: dict[str, tuple[str, Path]] = {}
    findings = []
    for split, samples in checked.items():
        for sample in (sample for sample in samples if sample.digest):
            if sample.digest in seen:
                other, file = seen[sample.digest]
                text = f"{sample.file} ({split}) has the same pixels as {file} ({other})."
                findings.append(Finding(text, fatal=False))
            else:
                seen[sample.digest] = split, sample.file
    return findings


def class_shares(checked: Sequence[Checked], names: Sequence[str]) -> dict[str, float]:
    """The share of each class in the labelled pixels, or in the images."""
    known = np.zeros(len(names), np.int64)
    for sample in checked:
        if sample.counts is not None:
            known += sample.counts[: len(names)]
    return dict(zip(names, (known / max(1, known.sum())).tolist(), strict=True))


def _by(shape: Sequence[int]) -> str:
    return f"{shape[0]} x {shape[1]}"
