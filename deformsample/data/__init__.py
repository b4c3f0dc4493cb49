"""Data sets, and the data module that loads any of them."""

from deformsample.data.blue_marble import BlueMarble
from deformsample.data.cityscapes import Cityscapes
from deformsample.data.dataset import Sample, SegmentationDataset, Split
from deformsample.data.deepglobe import DeepGlobe
from deformsample.data.folder import Folder
from deformsample.data.module import Batch, SegmentationData, SplitDataset
from deformsample.data.nifti import Nifti

__all__ = [
    "Batch",
    "BlueMarble",
    "Cityscapes",
    "DeepGlobe",
    "Folder",
    "Nifti",
    "Sample",
    "SegmentationData",
    "SegmentationDataset",
    "Split",
    "SplitDataset",
]
