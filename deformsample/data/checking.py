"""Looking at a whole data set before training: all that is wrong with it, at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from deformsample.data.dataset import Sample, SegmentationDataset
from deformsample.data.images import Pixels
from deformsample.errors import DataError
from deformsample.geometry import Size
from deformsample.losses import IGNORE_INDEX


@dataclass(frozen=True)
class Finding:
    """What is to say of a file."""

    text: str
    fatal: bool
    """Whether training would stop at it."""


@dataclass(frozen=True)
class Checked:
    """What a sample's files hold; of a sample that cannot be read, the findings alone."""

    sample: Sample
    findings: Sequence[Finding]
    size: Size = (0, 0)
    counts: npt.NDArray[np.int64] | None = None
    """(256,) pixels of each id."""

    digest: str = ""
    """Equal for images of equal pixels."""


def check_samples(
    dataset: SegmentationDataset,
    samples: Sequence[Sample],
    jobs: int,
    progress: Callable[[Iterable[Checked]], Iterable[Checked]],
) -> list[Checked]:
    """Read every image and its labels, in order.

    Args:
        dataset: reads them.
        samples: of a split.
        jobs: how many at a time.
        progress: passes the results on, and tells the user how far they are.
    """
    with ThreadPoolExecutor(jobs) as pool:
        return list(progress(pool.map(lambda sample: check_sample(dataset, sample), samples)))


def check_sample(dataset: SegmentationDataset, sample: Sample) -> Checked:
    """Read one image and its labels, as training would."""
    findings: list[Finding] = []
    read: list[Pixels] = []
    for reader in (dataset.read_image, dataset.read_labels):
        try:
            read.append(reader(sample))
        except DataError as error:
            findings.append(Finding(str(error), fatal=True))
    if findings:
        return Checked(sample, findings)
    image, labels = read
    if image.shape[:2] != labels.shape:
        text = f"{sample.image} has {_by(image.shape)} pixels, but {sample.labels} has "
        findings.append(Finding(text + f"{_by(labels.shape)}.", fatal=True))
    if (labels == IGNORE_INDEX).all():
        findings.append(Finding(f"{sample.labels} has no pixel with a class.", fatal=False))
    if (image == image[0, 0]).all():
        findings.append(Finding(f"{sample.image} is of one colour.", fatal=False))
    counts = np.bincount(labels.ravel(), minlength=256)
    digest = hashlib.sha256(image.tobytes()).hexdigest()
    return Checked(sample, findings, (image.shape[0], image.shape[1]), counts, digest)


def equal_images(checked: Mapping[str, Sequence[Checked]]) -> list[Finding]:
    """Images that are there more than once, within a split or in several.

    Args:
        checked: by split.
    """
    seen: dict[str, tuple[str, Path]] = {}
    findings = []
    for split, samples in checked.items():
        for one in (one for one in samples if one.digest):
            if one.digest in seen:
                other, file = seen[one.digest]
                text = f"{one.sample.image} ({split}) has the same pixels as {file} ({other})."
                findings.append(Finding(text, fatal=False))
            else:
                seen[one.digest] = split, one.sample.image
    return findings


def class_shares(checked: Sequence[Checked], names: Sequence[str]) -> dict[str, float]:
    """The share of each class in the pixels that have one; 0 where it does not occur."""
    counts = sum((one.counts for one in checked if one.counts is not None), np.zeros(256, np.int64))
    known = counts[: len(names)]
    return dict(zip(names, (known / max(1, known.sum())).tolist(), strict=True))


def _by(shape: Sequence[int]) -> str:
    return f"{shape[0]} x {shape[1]}"
