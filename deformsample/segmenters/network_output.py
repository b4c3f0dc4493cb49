"""Logits from the outputs of segmentation networks."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from deformsample.errors import ArgumentError


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
