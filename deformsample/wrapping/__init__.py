"""A learned downsampler before any segmentation network, in one line."""

from deformsample.wrapping.trainable import TrainableSegmenter, segmenter

__all__ = ["TrainableSegmenter", "segmenter"]
