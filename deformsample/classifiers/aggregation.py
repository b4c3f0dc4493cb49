"""From the scores of tiles to those of the whole image."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

from torch import Tensor
from torch.nn import functional as F

from deformsample.errors import ArgumentError

Aggregation: TypeAlias = Literal["majority", "mean", "maximum"]


def majority_vote(scores: Tensor) -> Tensor:
    """Every tile has a vote; a tie goes to the tied class of the highest mean probability.

    The probability of a class is its share of ``t + 1`` votes: one of each tile, and one more that
    the classes share by their mean probability. That share is below one whole vote, so it decides
    ties and nothing else, and no class is impossible.

    Args:
        scores: (b, t, k) of t tiles for k classes.

    Returns:
        (b, k), logarithms of the probabilities. Votes have no gradient.

    Raises:
        ArgumentError: there is one class only.
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
    """The mean of the tiles' probabilities; of a single score, its mean.

    Args:
        scores: (b, t, k) of t tiles for k classes.

    Returns:
        (b, k), logarithms of the probabilities, or the mean score (b, 1).
    """
    if scores.shape[2] == 1:
        return scores.mean(dim=1)
    # By logarithms: the probability of a class may be too small for a float.
    return scores.log_softmax(dim=2).logsumexp(dim=1) - math.log(scores.shape[1])


def maximum_score(scores: Tensor) -> Tensor:
    """The largest raw score of any tile, class by class; probabilities are its softmax.

    Args:
        scores: (b, t, k) of t tiles for k classes.

    Returns:
        (b, k).
    """
    return scores.amax(dim=1)
