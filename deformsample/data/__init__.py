"""Data sets, and the data modules that load any of them."""

from deformsample.data.blue_marble import BlueMarble
from deformsample.data.cityscapes import Cityscapes
from deformsample.data.classification import ClassificationData, LabelledBatch, LabelledSplit
from deformsample.data.dataset import Sample, SegmentationDataset, Split
from deformsample.data.deepglobe import DeepGlobe
from deformsample.data.divisions import Division, Folds, Shares, SplitFile
from deformsample.data.folder import Folder
from deformsample.data.labelled import (
    ClassFolder,
    LabelledDataset,
    LabelledFiles,
    LabelledImage,
)
from deformsample.data.module import Batch, SegmentationData, SplitDataset
from deformsample.data.nifti import Nifti

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
