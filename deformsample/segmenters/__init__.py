"""Segmenters: from an image to the class of every pixel."""

from deformsample.segmenters.downsampling import Downsampled, Downsampler, sampled_size
from deformsample.segmenters.sampled import STAGES, Prediction, SampledSegmenter

__all__ = [
    "STAGES",
    "Downsampled",
    "Downsampler",
    "Prediction",
    "SampledSegmenter",
    "sampled_size",
]
