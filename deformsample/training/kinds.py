"""What can be trained."""

from __future__ import annotations

from dataclasses import dataclass

from pytorch_lightning import LightningDataModule, LightningModule

from deformsample.data import ClassificationDataModule, SegmentationDataModule
from deformsample.training.classification_task import ClassificationTask
from deformsample.training.segmentation_task import SegmentationTask


@dataclass(frozen=True)
class Kind:
    """What a run of a task is made of."""

    task: type[LightningModule]
    data: type[LightningDataModule]

    part: str
    """The argument of the task that is trained."""

    defaults: tuple[str, ...]
    """Configs that are read before all others: every run starts from these."""

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
"""By the `task` of a config."""
