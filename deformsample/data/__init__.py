"""Data sets, and the data modules that load any of them."""

from deformsample.data.datamodule import (
    ClassificationDataModule,
    ImageDataModule,
    SegmentationDataModule,
)
from deformsample.data.datasets.blue_marble import BlueMarble
from deformsample.data.datasets.cityscapes import Cityscapes
from deformsample.data.datasets.classification_dataset import (
    ClassificationDataset,
    ClassificationSample,
    CsvDataset,
    ImageFolder,
)
from deformsample.data.datasets.deepglobe import DeepGlobe
from deformsample.data.datasets.folder import Folder
from deformsample.data.datasets.image_dataset import ImageDataset, ImageSample
from deformsample.data.datasets.nifti import Nifti
from deformsample.data.datasets.segmentation_dataset import SegmentationDataset, SegmentationSample
from deformsample.data.items import (
    ClassificationBatch,
    ClassificationSplit,
    SegmentationBatch,
    SegmentationSplit,
)
from deformsample.data.splits import KFold, RandomSplit, Split, SplitFile, Splitter
from deformsample.data.transport_warp import TransportWarp

__all__ = [
    "BlueMarble",
    "Cityscapes",
    "ClassificationBatch",
    "ClassificationDataModule",
    "ClassificationDataset",
    "ClassificationSample",
    "ClassificationSplit",
    "CsvDataset",
    "DeepGlobe",
    "Folder",
    "ImageDataModule",
    "ImageDataset",
    "ImageFolder",
    "ImageSample",
    "KFold",
    "Nifti",
    "RandomSplit",
    "SegmentationBatch",
    "SegmentationDataModule",
    "SegmentationDataset",
    "SegmentationSample",
    "SegmentationSplit",
    "Split",
    "SplitFile",
    "Splitter",
    "TransportWarp",
]
