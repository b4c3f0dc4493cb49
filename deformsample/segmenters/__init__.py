"""Segmenters: full-resolution segmentation of images."""

from deformsample.segmenters.prediction import Prediction, SampledPrediction, TilePrediction
from deformsample.segmenters.sampled_segmenter import SampledSegmenter
from deformsample.segmenters.segmenter import Segmenter
from deformsample.segmenters.tiled_segmenter import TiledSegmenter
from deformsample.segmenters.two_pass_segmenter import TwoPassSegmenter

__all__ = [
    "Prediction",
    "SampledPrediction",
    "SampledSegmenter",
    "Segmenter",
    "TilePrediction",
    "TiledSegmenter",
    "TwoPassSegmenter",
]
