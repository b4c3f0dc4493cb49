"""The head of a segmentation network."""

from __future__ import annotations

from torch import nn

from deformsample.errors import ArgumentError


def upsampling_head(channels: int, num_classes: int, logit_upsampling: int) -> nn.Module:
    """A head from features at the samples to logits at the samples and at points between them.

    Boundaries pass between samples, and the colours of the samples show where: a sample that is
    half vessel lies on the edge. Upsampled logits represent this at a negligible cost in MACs.

    Args:
        channels: channels of the features (b, channels, h, w).
        num_classes: channels of the logits.
        logit_upsampling: the factor s, per side. The corners are kept: the result has
            ((h - 1) s + 1, (w - 1) s + 1) points.
    """
    if logit_upsampling < 1:
        raise ArgumentError(
            f"Expected `logit_upsampling` of at least 1, but got {logit_upsampling}."
        )
    if logit_upsampling == 1:
        return nn.Conv2d(channels, num_classes, 1)
    return nn.ConvTranspose2d(
        channels,
        num_classes,
        kernel_size=2 * logit_upsampling - 1,
        stride=logit_upsampling,
        padding=logit_upsampling - 1,
    )
