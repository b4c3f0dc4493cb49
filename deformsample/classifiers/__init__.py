"""Classifiers: from an image to one score per class, or to a single score."""

from deformsample.classifiers.aggregation import (
    Aggregation,
    majority_vote,
    maximum_score,
    mean_probability,
)
from deformsample.classifiers.base import Classifier
from deformsample.classifiers.sampled import SampledClassifier
from deformsample.classifiers.streamed import StreamedClassifier
from deformsample.classifiers.tiled import TiledClassifier

__all__ = [
    "Aggregation",
    "Classifier",
    "SampledClassifier",
    "StreamedClassifier",
    "TiledClassifier",
    "majority_vote",
    "maximum_score",
    "mean_probability",
]
