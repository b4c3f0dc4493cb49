"""Logits from the outputs of segmentation networks."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn
from torch.nn import functional as F

from deformsample.errors import ArgumentError


def logits_at_pixels(network: nn.Module, image: Tensor, multiple: int) -> Tensor:
    """The logits of an image, at its pixels or finer.

    Args:
        network: as in :class:`~deformsample.segmenters.Segmenter`.
        image: (b, 3, h, w), normalised.
        multiple: pad the image to a multiple of this by repeating its last row and column.

    Returns:
        (b, k, h', w').

    Raises:
        ArgumentError: see :func:`logits_of`.
    """
    h, w = image.shape[2:]
    right, down = -w % multiple, -h % multiple
    is_padded = bool(right or down)
    if is_padded:
        image = F.pad(image, (0, right, 0, down), mode="replicate")
    logits = logits_of(network(image), network)
    height, width = image.shape[2:]
    is_coarse = logits.shape[2] < height or logits.shape[3] < width
    # Padding can be cut off only where a logit is a pixel.
    if is_coarse or (is_padded and logits.shape[2:] != (height, width)):
        logits = F.interpolate(logits, (height, width), mode="bilinear", align_corners=True)
    return logits[..., :h, :w] if is_padded else logits


def logits_of(output: object, network: nn.Module) -> Tensor:
    """The logits (b, k, h, w) of the output of a network.

    A network can return a tensor, a dictionary with ``out`` (torchvision), or an object with
    ``logits`` (transformers).

    Args:
        output: output of the network.
        network: the network, for errors.

    Raises:
        ArgumentError: another output, or another number of dimensions.
    """
    logits = output
    if not isinstance(output, Tensor):
        logits = getattr(output, "logits", None)
        if logits is None and isinstance(output, Mapping):
            logits = output.get("out")
    if not isinstance(logits, Tensor) or logits.ndim != 4:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(output).__name__
        raise ArgumentError(
            "Expected logits (b, k, h, w), a dictionary with `out` or an object with `logits` from "
            f"{type(network).__name__}, but got {got}: wrap it in a module that returns logits."
        )
    return logits
