"""Intersection over union, from one confusion matrix over the whole data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def class_iou(confusion: Tensor) -> Tensor:
    """Intersection over union of every class (Everingham et al. 2010).

    Args:
        confusion: (k, k) counts, rows are true classes, columns predicted ones.

    Returns:
        (k,) float64 in [0, 1]; NaN for a class that is neither there nor predicted.
    """
    confusion = confusion.double()
    hit = confusion.diagonal()
    return hit / (confusion.sum(dim=0) + confusion.sum(dim=1) - hit)


def mean_iou(confusion: Tensor) -> Tensor:
    """Mean of :func:`class_iou` over the classes that are there or predicted, float64."""
    return class_iou(confusion).nanmean()


def merged_iou(confusion: Tensor, members: Sequence[int]) -> Tensor:
    """Intersection over union of several classes taken as one, float64."""
    confusion = confusion.double()
    chosen = torch.zeros(len(confusion), dtype=torch.bool, device=confusion.device)
    chosen[list(members)] = True
    hit = confusion[chosen][:, chosen].sum()
    return hit / (confusion[chosen].sum() + confusion[:, chosen].sum() - hit)


def iou_report(
    confusion: Tensor, names: Sequence[str], merged: Mapping[str, Sequence[str]]
) -> dict[str, Tensor]:
    """Per-class and merged IoU by name; classes that never occur are left out.

    Args:
        confusion: (k, k) counts.
        names: of the k classes.
        merged: further names, each for a list of classes taken as one.
    """
    report = dict(zip(names, class_iou(confusion), strict=True))
    for name, members in merged.items():
        report[name] = merged_iou(confusion, [names.index(member) for member in members])
    return {name: value for name, value in report.items() if not bool(value.isnan())}
