"""Classifiers: one score per class of an image, or a single score."""

from deformsample.classifiers.aggregation import (
    Aggregation,
    majority_vote,
    maximum_score,
    mean_probability,
)
from deformsample.classifiers.classifier import Classifier
from deformsample.classifiers.sampled_classifier import SampledClassifier
from deformsample.classifiers.streamed_classifier import StreamedClassifier
from deformsample.classifiers.tiled_classifier import TiledClassifier

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
