"""Aggregation of the scores of tiles."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from torch import Tensor
from torch.nn import functional as F

from deformsample.errors import ArgumentError

Aggregation: TypeAlias = Literal["majority", "mean", "maximum"]


def majority_vote(scores: Tensor) -> Tensor:
    """Majority vote of the tiles; ties are resolved by the mean probability.

    The probability of a class is its share of ``t + 1`` votes: one per tile, and one that is
    divided among the classes by their mean probability, which only decides ties.

    Args:
        scores: (b, t, k) of t tiles for k classes.

    Returns:
        (b, k) log probabilities. Votes have no gradient.

    Raises:
        ArgumentError: fewer than two classes.
    """
    tiles, classes = scores.shape[1:]
    if classes < 2:
        raise ArgumentError(
            "Expected scores of at least 2 classes for a majority vote, but got 1: aggregate a "
            "score per image by `mean` or `maximum`."
        )
    votes = F.one_hot(scores.argmax(dim=2), classes).sum(dim=1)
    shared = scores.softmax(dim=2).mean(dim=1)
    return ((votes + shared) / (tiles + 1)).log()


def mean_probability(scores: Tensor) -> Tensor:
    """The mean probability of the tiles, or the mean of a single score.

    Args:
        scores: (b, t, k) of t tiles for k classes.

    Returns:
        (b, k) log probabilities, or the mean score (b, 1).
    """
    if scores.shape[2] == 1:
        return scores.mean(dim=1)
    # In logarithms, since probabilities can underflow.
    return scores.log_softmax(dim=2).logsumexp(dim=1) - math.log(scores.shape[1])


def maximum_score(scores: Tensor) -> Tensor:
    """The largest raw score of any tile for each class; probabilities are its softmax.

    Args:
        scores: (b, t, k) of t tiles for k classes.

    Returns:
        (b, k).
    """
    return scores.amax(dim=1)
