"""Preparing losses for a data set."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn


def prepare_loss(
    loss: nn.Module, classes: Sequence[str], shares: Callable[[], Sequence[float]]
) -> None:
    """Call ``prepare`` of all modules of a loss that have such a method.

    Args:
        loss: loss with its auxiliary and density losses.
        classes: names of the classes in the order of their ids.
        shares: returns the share of each class in the training split.
    """
    for module in loss.modules():
        if (prepare := getattr(module, "prepare", None)) is not None:
            prepare(list(classes), shares)
