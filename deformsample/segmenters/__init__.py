"""Segmenters: from an image to the class of every pixel."""

from deformsample.segmenters.sampled import (
    STAGES,
    Downsampled,
    Prediction,
    SampledSegmenter,
    sampled_size,
)

__all__ = ["STAGES", "Downsampled", "Prediction", "SampledSegmenter", "sampled_size"]
