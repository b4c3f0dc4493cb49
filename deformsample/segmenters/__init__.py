"""Segmenters: from an image to the class of every pixel."""

from deformsample.segmenters.base import Predicted, Segmenter
from deformsample.segmenters.downsampling import Downsampled, Downsampler, sampled_size
from deformsample.segmenters.sampled import STAGES, Prediction, SampledSegmenter
from deformsample.segmenters.tiled import TiledSegmenter, TilePrediction

__all__ = [
    "STAGES",
    "Downsampled",
    "Downsampler",
    "Predicted",
    "Prediction",
    "SampledSegmenter",
    "Segmenter",
    "TilePrediction",
    "TiledSegmenter",
    "sampled_size",
]
