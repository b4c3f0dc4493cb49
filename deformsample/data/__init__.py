"""Data sets, and the data modules that load any of them."""

from deformsample.data.datamodule import ClassificationData, SegmentationData
from deformsample.data.datasets.blue_marble import BlueMarble
from deformsample.data.datasets.cityscapes import Cityscapes
from deformsample.data.datasets.classification_dataset import (
    ClassFolder,
    LabelledDataset,
    LabelledFiles,
    LabelledImage,
)
from deformsample.data.datasets.deepglobe import DeepGlobe
from deformsample.data.datasets.folder import Folder
from deformsample.data.datasets.nifti import Nifti
from deformsample.data.datasets.segmentation_dataset import Sample, SegmentationDataset
from deformsample.data.items import Batch, LabelledBatch, LabelledSplit, SplitDataset
from deformsample.data.splits import Division, Folds, Shares, Split, SplitFile

__all__ = [
    "Batch",
    "BlueMarble",
    "Cityscapes",
    "ClassFolder",
    "ClassificationData",
    "DeepGlobe",
    "Division",
    "Folder",
    "Nifti",
    "Folds",
    "LabelledBatch",
    "LabelledDataset",
    "LabelledFiles",
    "LabelledImage",
    "LabelledSplit",
    "Sample",
    "SegmentationData",
    "SegmentationDataset",
    "Shares",
    "Split",
    "SplitDataset",
    "SplitFile",
]
