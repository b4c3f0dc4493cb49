"""Any segmentation network behind a learned downsampler, in one line."""

from deformsample.wrapping.trainable import TrainableSegmenter, segmenter

__all__ = ["TrainableSegmenter", "segmenter"]
