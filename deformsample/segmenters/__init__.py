"""Segmenters: from an image to the class of every pixel."""

from deformsample.segmenters.sampled import (
    Downsampled,
    Prediction,
    SampledSegmenter,
    sampled_size,
)

__all__ = ["Downsampled", "Prediction", "SampledSegmenter", "sampled_size"]
