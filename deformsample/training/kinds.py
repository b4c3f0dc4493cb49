"""The kinds of tasks."""

from __future__ import annotations

from dataclasses import dataclass

from pytorch_lightning import LightningDataModule, LightningModule

from deformsample.data import ClassificationDataModule, SegmentationDataModule
from deformsample.training.classification_task import ClassificationTask
from deformsample.training.segmentation_task import SegmentationTask


@dataclass(frozen=True)
class Kind:
    """The classes and configs of a kind of task."""

    task: type[LightningModule]
    data: type[LightningDataModule]

    part: str
    """The argument of the task that is the model."""

    defaults: tuple[str, ...]
    """Default configs, read before all others."""

    purpose: str


KINDS = {
    "segmentation": Kind(
        SegmentationTask,
        SegmentationDataModule,
        "segmenter",
        ("trainer.yaml", "method/learned.yaml"),
        "Train a downsampler and a segmentation network together.",
    ),
    "classification": Kind(
        ClassificationTask,
        ClassificationDataModule,
        "classifier",
        ("classification/trainer.yaml",),
        "Train a classifier of whole images.",
    ),
}
"""Kinds by the ``task`` of a config."""
