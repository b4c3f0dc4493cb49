"""The logits in what a segmentation network returns."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from deformsample.errors import ArgumentError


def logits_of(output: object, network: nn.Module) -> Tensor:
    """Find the logits (b, k, h, w) in the output of a network.

    A network may return a tensor, a dictionary with ``out`` (torchvision), or an object with
    ``logits`` (transformers).

    Args:
        output: of the network.
        network: named in an error.

    Raises:
        ArgumentError: the output is something else, or has another number of dimensions.
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
