"""The last layer of a segmentation network."""

from __future__ import annotations

from torch import nn

from deformsample.errors import ArgumentError


def refining_head(channels: int, num_classes: int, refinement: int) -> nn.Module:
    """From features at the samples to logits at them, and at points between them.

    A boundary passes between samples, and the colours of the samples tell where: a sample that is
    half vessel lies on the edge. Logits between the samples can say so; they cost no sample, and
    next to nothing in multiplications.

    Args:
        channels: of the features (b, channels, h, w).
        num_classes: channels of the logits.
        refinement: logits from one sample to the next, per side. The corners stay where they are:
            the result has ((h - 1) refinement + 1, (w - 1) refinement + 1) points.
    """
    if refinement < 1:
        raise ArgumentError(f"Expected `refinement` of at least 1, but got {refinement}.")
    if refinement == 1:
        return nn.Conv2d(channels, num_classes, 1)
    return nn.ConvTranspose2d(
        channels,
        num_classes,
        kernel_size=2 * refinement - 1,
        stride=refinement,
        padding=refinement - 1,
    )
